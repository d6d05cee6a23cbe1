"""Archives of a set's folder: what they keep, and what is refused."""

import io
import json
import zipfile

import numpy as np
import pytest
from etils import epath

from experiments.paper.archive import read_archive, write_archive
from experiments.paper.registry import RESULTS
from experiments.paper.run_configs import config_hash, load_config
from experiments.paper.runs import RUN_SETS
from hgeo.errors import InputError
from hgeo.records.run_records import LossRow, RunRecords


def write_runs(folder, repeats=2):
    for repeat in range(repeats):
        records = RunRecords(folder / "runs" / "adam" / f"repeat_{repeat}")
        records.losses[0] = LossRow("adam", repeat, 0, 0.0, 2.5)
        records.write()
        values = np.arange(3.0)
        records.write_arrays(
            0,
            {
                "l/kernel.diagonal": values,
                "l/kernel.singular_values": values,
                "l/kernel.gradient": -values,
            },
        )
        (records.folder / "checkpoints").mkdir()
        (records.folder / "checkpoints" / "large").write_bytes(b"x" * 1000)
    (folder / "config.json").write_text(json.dumps({"config": {"steps": 1}}))
    return folder


def restored(tmp_path):
    write_archive(
        write_runs(epath.Path(tmp_path / "runs_of_a_set")), epath.Path(tmp_path / "a.zip")
    )
    read_archive(epath.Path(tmp_path / "a.zip"), epath.Path(tmp_path / "again"))
    return tmp_path / "again"


def test_records_and_sampled_entries_are_kept(tmp_path):
    folder = restored(tmp_path)
    assert json.loads((folder / "config.json").read_text()) == {"config": {"steps": 1}}
    kept = {"diagonal", "singular_values"}
    for repeat, names in enumerate((kept | {"gradient"}, kept)):
        records = RunRecords(folder / "runs" / "adam" / f"repeat_{repeat}")
        assert records.is_archived
        assert records.losses == {0: LossRow("adam", repeat, 0, 0.0, 2.5)}
        arrays = records.read_arrays(0)
        assert {name.rpartition(".")[2] for name in arrays} == names
        np.testing.assert_array_equal(arrays["l.kernel.diagonal"], np.arange(3.0))


def test_checkpoints_are_left_behind(tmp_path):
    assert not list(restored(tmp_path).rglob("checkpoints"))


def test_equal_runs_give_equal_bytes(tmp_path):
    contents = []
    for name in ("a", "b"):
        path = epath.Path(tmp_path / f"{name}.zip")
        write_archive(write_runs(epath.Path(tmp_path / name)), path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_probes_without_a_config_are_left_out(tmp_path):
    folder = write_runs(epath.Path(tmp_path / "runs"))
    for name in ("whole", "stopped"):
        (folder / "probes" / name).mkdir(parents=True)
    (folder / "probes" / "whole" / "config.json").write_text("{}")
    write_archive(folder, epath.Path(tmp_path / "a.zip"))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        found = {name for name in archive.namelist() if name.startswith("probes/")}
    assert found == {"probes/whole/config.json"}


@pytest.mark.parametrize("name", ["../outside", "runs/../../outside", "/etc/outside", "other/a"])
def test_another_file_in_an_archive_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr(name, "x")
    with pytest.raises(InputError, match=f"has a file '{name}'"):
        read_archive(epath.Path(tmp_path / "bad.zip"), epath.Path(tmp_path / "folder"))
    assert not (tmp_path / "folder").exists(), "nothing was written"


def test_a_damaged_archive_is_named(tmp_path):
    write_archive(write_runs(epath.Path(tmp_path / "runs")), epath.Path(tmp_path / "whole.zip"))
    content = bytearray((tmp_path / "whole.zip").read_bytes())
    for damage in (bytes(content[:100]), b"".join((content[:60], b"\0" * 40, content[100:]))):
        (tmp_path / "bad.zip").write_bytes(damage)
        with pytest.raises(InputError, match=r"bad\.zip can't be read"):
            read_archive(epath.Path(tmp_path / "bad.zip"), epath.Path(tmp_path / "folder"))


def test_published_archives_are_of_todays_runs(tmp_path):
    known = {
        f"{run_set.config}-{config_hash(load_config(name, 'cpu'))}"
        for name, run_set in RUN_SETS.items()
    }
    for path in sorted((RESULTS / "records").glob("*.zip")):
        assert path.stem in known, "its config has changed: train these runs again"
        read_archive(epath.Path(path), epath.Path(tmp_path / path.stem))
        runs = [RunRecords(run) for run in (tmp_path / path.stem).glob("runs/*/repeat_*")]
        assert runs
        assert all(run.geometry and not run.repairs for run in runs)


def test_entries_are_plain_arrays(tmp_path):
    restored(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        content = archive.read("runs/adam/repeat_1/arrays/0.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert arrays.files == ["l.kernel.diagonal", "l.kernel.singular_values"]
