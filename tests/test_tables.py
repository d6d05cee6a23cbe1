import pytest

from hgeo.records import GeometryRow, IterateRow, LossRow, RunRecords
from hgeo.tables import WIDTH, compare, compare_at_losses, format_number


def make_runs(tmp_path, values, layers=("block0/linear1/kernel",)):
    """Runs with R_med `values[optimizer][repeat][step]` in every layer."""
    runs = []
    for optimizer, repeats in values.items():
        for repeat, steps in enumerate(repeats):
            run = RunRecords(tmp_path / optimizer / str(repeat))
            for step, value in steps.items():
                run.losses[step] = LossRow(optimizer, repeat, step, 0.0, 1.5)
                run.geometry[step] = [
                    GeometryRow(optimizer, repeat, step, 0.0, 2.0 + step, n, name, "r_med", value)
                    for n, name in enumerate(layers, start=1)
                ]
            runs.append(run)
    return runs


def test_ratio_is_the_mean_of_each_repeats_ratio(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{10: 8.0}, {10: 6.0}], "adam": [{10: 2.0}, {10: 6.0}]})
    (table,) = compare(runs, ("sgdm", "adam"), [10])
    assert table.header == ["#", "layer", "10:SGD+M", "Adam", "ratio"]
    assert table.rows[0] == [*("1", "block0/linear1", "7.00 (1.41)", "4.00 (2.83)", "2.50 (2.12)")]
    assert table.rows[-1][-1] == "1 of 1"


def test_common_start_has_one_column(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{0: 3.0, 5: 4.0}], "adam": [{0: 3.0, 5: 8.0}]})
    (table,) = compare(runs, ("sgdm", "adam"), [0, 5])
    assert table.header == ["#", "layer", "step 0", "5:SGD+M", "Adam", "ratio"]
    assert table.rows[0][2:] == ["3.00", "4.00", "8.00", "0.500"]


def test_same_loss_compares_each_repeats_own_steps(tmp_path):
    runs = make_runs(
        tmp_path, {"sgdm": [{10: 8.0}, {20: 6.0}], "adam": [{4: 2.0, 20: 99.0}, {6: 6.0}]}
    )
    for run, step in zip(runs, (10, 20, 4, 6), strict=True):
        (row,) = run.geometry[step]
        run.iterates["same_loss", 2.5] = IterateRow(
            row.optimizer, row.repeat, "same_loss", 2.5, step, 2.4
        )
        run.iterates["same_loss", 1.0] = IterateRow(
            row.optimizer, row.repeat, "same_loss", 1.0, step if step == 4 else -1, 1.2
        )
    (table,) = compare_at_losses(runs, ("sgdm", "adam"), (2.5, 1.0))
    assert table.header[2:] == ["2.5:SGD+M", "Adam", "ratio", "1:SGD+M", "Adam", "ratio"]
    assert table.rows[0][2:5] == ["7.00 (1.41)", "4.00 (2.83)", "2.50 (2.12)"]
    assert table.rows[0][5:] == ["–", "2.00", "–"]
    assert [row[2:4] for row in table.rows if row[1] == "step"] == [["15 (7)", "5 (1)"]]
    assert table.notes[0] == "SGD+M, repeat 0: a loss of 1 was never reached, the lowest is 1.20"
    assert len(table.notes) == 3


def test_what_is_missing_is_a_dash_and_divergence_a_note(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{0: 3.0}], "adam": [{0: 3.0, 5: 8.0}]})
    runs[0].losses[4] = LossRow("sgdm", 0, 4, 0.0, float("nan"))
    (table,) = compare(runs, ("sgdm", "adam"), [0, 5])
    assert table.rows[0][2:] == ["3.00", "–", "8.00", "–"]
    assert table.notes == ["SGD+M, repeat 0: diverged at step 4 (loss nan)"]
    assert "diverged at step 4" in table.markdown()
    assert "diverged at step 4" in table.text()


def test_tables_fit_the_terminal(tmp_path):
    steps = dict.fromkeys(range(0, 5000, 500), 1234.5)
    other = dict.fromkeys(steps, 12.3)
    layers = [f"decoder{n}/cross_attention/out_proj/kernel" for n in range(30)]
    runs = make_runs(tmp_path, {"sgdm": [steps], "adam": [other]}, layers)
    tables = compare(runs, ("sgdm", "adam"), steps)
    assert len(tables) > 1
    assert all(len(line) <= WIDTH for table in tables for line in table.text().splitlines())
    shown = [cell for table in tables for cell in table.header if ":" in cell]
    assert shown == [f"{step}:SGD+M" for step in steps]


def test_records_survive_writing_and_reading(tmp_path):
    runs = make_runs(tmp_path, {"adam": [{0: 1 / 3, 5: float("inf")}]})
    runs[0].losses[5] = LossRow("adam", 0, 5, 0.125, float("nan"))
    runs[0].write()
    again = RunRecords(tmp_path / "adam" / "0")
    assert again.geometry[5] == runs[0].geometry[5]
    assert again.geometry[0][0].value == pytest.approx(1 / 3, rel=1e-9)
    assert again.diverged_at == 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.00"), (0.35, "0.350"), (12345.6, "12346"), (1e7, "1.00e+07"), (9.996, "10.00"),
     (0.0, "0.0"), (float("inf"), "inf"), (float("nan"), "nan")],
)  # fmt: skip
def test_format_number(value, text):
    assert format_number(value) == text
