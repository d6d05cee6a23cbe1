"""`experiments.reproduce` from end to end at smoke scale, on small local data."""

import math

import jax
import pytest

from configs import bert
from experiments import reproduce
from experiments.paper import step0, training
from experiments.paper.registry import EXPERIMENTS
from tests.experiments import rows
from tests.local_data import write_all, write_wikitext2

# Both take the runs of one set, the second takes another's besides.
FEW = ["table5", "figure6"]
SETTINGS = step0.settings
TRAINED = [name for name, experiment in EXPERIMENTS.items() if experiment.runs]


def run(names, folder, data):
    training.forget()
    # Optax's bias correction raises a Python float to an int32 power, which strict mode forbids.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        arguments = [f"--workdir={folder}", f"--data_dir={data}", "--scale=smoke"]
        return reproduce.main([*names, *arguments])


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    data = write_wikitext2(tmp_path_factory.mktemp("data"))
    folder = tmp_path_factory.mktemp("few")
    assert run(FEW, folder, data) == 0
    return folder, data


@pytest.mark.parametrize("name", FEW)
def test_writes_everything(few, name):
    folder, _ = few
    assert rows(folder, name)
    text = (folder / f"{name}.md").read_text()
    assert "| --- |" in text
    assert f"python -m experiments.reproduce {name} --scale=smoke" in text
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / f"{name}.svg").read_text()
    assert f'<section id="{name}">' in (folder / "report.html").read_text()


def test_paper_and_ours_stand_side_by_side(few):
    folder, _ = few
    found = rows(folder, "table5")
    assert len(found) == 24
    (row,) = [r for r in found if (r["checkpoint"], r["layer"]) == ("epoch 40", "8")]
    assert (row["paper_first"], row["paper_second"]) == ("203.7", "9.57")
    assert row["our_checkpoint"] == "step 6 of 6"
    finite = [row for row in found if math.isfinite(float(row["ours_ratio"]))]
    assert len(finite) > 8
    for row in finite:
        ratio = float(row["ours_first"]) / float(row["ours_second"])
        assert float(row["ours_ratio"]) == pytest.approx(ratio, rel=1e-4)
        assert row["eps"] == "0"
        if row["our_checkpoint"] == "step 0 of 6":  # both sides have the same iterate
            assert (row["ours_ratio_low"], row["interval_covers"]) == ("", "")
        else:
            assert float(row["ours_ratio_low"]) <= ratio * 1.0001
            assert row["interval_covers"] == "coordinates"


def test_shared_runs_are_trained_once(few):
    folder, _ = few
    assert len(list(folder.glob("lm-*"))) == 2


def test_again_nothing_is_trained_and_the_numbers_are_the_same(few, monkeypatch):
    folder, data = few
    before = {name: (folder / f"{name}.csv").read_bytes() for name in FEW}
    monkeypatch.setattr("hgeo.experiment.resolve.make_workload", None)
    assert run(FEW, folder, data) == 0
    assert before == {name: (folder / f"{name}.csv").read_bytes() for name in FEW}


def test_records_alone_give_the_same_numbers(few, tmp_path, monkeypatch):
    folder, data = few
    monkeypatch.setattr("hgeo.experiment.resolve.make_workload", None)
    assert run([*FEW, f"--records={folder / 'records'}"], tmp_path, data) == 0
    for name in FEW:
        assert (tmp_path / f"{name}.csv").read_bytes() == (folder / f"{name}.csv").read_bytes()
    assert not list(tmp_path.rglob("checkpoints"))
    for archive in folder.glob("records/*.zip"):
        assert (tmp_path / "records" / archive.name).read_bytes() == archive.read_bytes()


@pytest.mark.slow
def test_another_repeat_joins_those_of_an_archive(few, tmp_path):
    folder, data = few
    assert run(["table5", "--repeats=2", f"--records={folder / 'records'}"], tmp_path, data) == 0
    assert {row["repeats"] for row in rows(tmp_path, "table5")} == {"2"}
    assert {path.parents[1].name for path in tmp_path.rglob("checkpoints/*")} == {"repeat_1"}


@pytest.mark.slow
def test_an_archive_has_no_checkpoints_to_probe(few, tmp_path, capsys):
    _, data = few
    assert run(["table3"], tmp_path / "first", data) == 0
    records = tmp_path / "first" / "records"
    assert run(["extra_full", f"--records={records}"], tmp_path / "second", data) == 2
    assert "2 of 2 runs have none there: train them without --records" in capsys.readouterr().err


@pytest.mark.slow
def test_another_repeat_is_added_to_the_same_runs(few):
    folder, data = few
    files = sorted(folder.glob("lm-*/runs/*/repeat_0/losses.csv"))
    before = [path.read_bytes() for path in files]
    assert run(["table5", "--repeats=2"], folder, data) == 0
    assert {row["repeats"] for row in rows(folder, "table5")} == {"2"}
    assert len(files) == 4
    assert [path.read_bytes() for path in files] == before
    assert len(list(folder.glob("lm-*"))) == 2


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory):
    data = tmp_path_factory.mktemp("all_data")
    write_all(data)
    folder = tmp_path_factory.mktemp("all")
    original = bert.get_config

    def with_local_reviews(scale):
        config = original(scale)
        config.data.source = "aclImdb"
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bert, "get_config", with_local_reviews)
        assert run(TRAINED, folder, data) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_every_experiment_runs(all_of_them, name):
    test_writes_everything((all_of_them, None), name)


@pytest.mark.slow
def test_step_0_is_probed_with_and_without_dropout(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write_all(tmp_path / "data")
    monkeypatch.setitem(step0.SCALES, "smoke", step0.Scale((16,), (8, 16), 4, 2))
    monkeypatch.setattr(step0, "settings", lambda scale: list(SETTINGS(scale))[:3])
    assert run(["step0"], tmp_path / "work", tmp_path / "data") == 0
    found = rows(tmp_path / "work", "step0")
    losses = {(row["dropout"], row["loss"]) for row in found}
    assert {dropout for dropout, _ in losses} == {"-1", "0", "1"}
    assert len(losses) == len({loss for _, loss in losses}) == 3
    assert all(float(row["r_med"]) >= 1 for row in found)
