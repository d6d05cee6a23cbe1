"""Step 0: settings, what is probed again, and which one is closest to a table."""

import csv
import io

import pytest
from etils import epath
from rich.console import Console

from experiments import reproduce
from experiments.paper import paper_numbers, step0
from experiments.paper.training import ReproductionContext
from hgeo.errors import InputError
from tests.experiments import rows


def place(folder):
    return ReproductionContext(epath.Path(folder), "smoke", Console(file=io.StringIO()), "")


def made_up(setting, context):
    """Table 9's numbers without dropout, 2(a)'s with it, twice as large in larger batches."""
    table = "2a" if setting.dropout >= 0 else "9"
    table = "2b" if setting.runs == "translation_random" else table
    numbers = {
        n.layer: n.value
        for n in paper_numbers.of_table(table).values()
        if n.checkpoint == "epoch 0" and n.series == "sgdm"
    }
    factor = setting.batch / 8 * setting.width / 16
    return [
        {
            "scale": context.scale,
            "setting": str(setting),
            "runs": setting.runs,
            "layer": layer,
            "r_med": factor * value,
        }
        for layer, value in numbers.items()
    ]


def test_the_closest_setting_is_named_and_only_missing_ones_are_probed(tmp_path, monkeypatch):
    probed = []
    monkeypatch.setattr(step0, "probe", lambda s, p: probed.append(s) or made_up(s, p))
    chosen = list(step0.settings("smoke"))
    assert len(chosen) == len(set(map(str, chosen))) == 2 * 2 * 2 * 3
    table = step0.step0(place(tmp_path))
    assert probed == chosen
    text = table.markdown()
    for of, masks in (("2a", "dropout, 2 key(s)"), ("9", "no dropout")):
        where = f"translation, width 16, batch 8, {masks}"
        assert f"Table {of} is closest in size to {where}: a factor of 1.00" in text
        assert f"Its order of layers is closest to {where}: ρ 1.00" in text
    far = ["translation, width 32, batch 16, no dropout", "9"]
    (line,) = [row for row in table.rows if row[1:3] == far]
    assert [float(cell) for cell in line[4:]] == [4.0, 4.0, 1.0]
    found = rows(tmp_path, "step0")
    kept = [row for row in found if row["setting"] != str(chosen[3])]
    with (tmp_path / "step0.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    probed.clear()
    again = step0.step0(place(tmp_path))
    assert sorted(row[1:] for row in again.rows) == sorted(row[1:] for row in table.rows)
    assert probed == [chosen[3]]


def test_keys_of_dropout_are_one_setting(tmp_path, monkeypatch):
    made = lambda s, p: [
        row | {"r_med": row["r_med"] * (4.0 if s.dropout == 1 else 1.0)} for row in made_up(s, p)
    ]
    monkeypatch.setattr(step0, "probe", made)
    table = step0.step0(place(tmp_path), "width 16, batch 8, dropout")
    assert len({row["setting"] for row in rows(tmp_path, "step0")}) == 4
    (line,) = [row for row in table.rows if row[1].startswith("translation,") and row[2] == "2a"]
    assert line[1] == "translation, width 16, batch 8, dropout, 2 key(s)"
    assert [float(cell) for cell in line[4:]] == [2.0, 2.0, 1.0]


def test_only_a_text_that_no_setting_has(tmp_path, capsys):
    with pytest.raises(InputError, match="no setting's name has 'width 17'; settings are trans"):
        step0.step0(place(tmp_path), "width 17")
    assert reproduce.main(["table1", f"--workdir={tmp_path}", "--only=width 16"]) == 2
    assert "--only chooses settings of step0" in capsys.readouterr().err


def test_the_paper_has_one_number_a_layer_at_step_0():
    numbers = {
        table: len(step0._of_paper(table, at))
        for tables in step0.TABLES.values()
        for table, at in tables.items()
    }
    assert numbers == {"2a": 10, "2b": 10, "9": 10, "1": 7}


def test_bad_arguments(tmp_path, capsys):
    with pytest.raises(InputError, match="unknown scale 'huge'; scales are smoke, cpu, gpu, paper"):
        next(step0.settings("huge"))
    assert reproduce.main(["step0"]) == 2
    assert "--workdir=DIR is missing" in capsys.readouterr().err
    assert reproduce.main(["step0", f"--workdir={tmp_path}", "--scale=huge"]) == 2
    assert "unknown scale 'huge'" in capsys.readouterr().err
