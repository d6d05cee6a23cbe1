import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hgeo.records.run_records import EvaluationRow, GeometryRow, IterateRow, LossRow, RunRecords
from hgeo.report.tables import StatisticTable, compare, compare_at_losses, format_number, held_out
from hgeo.report.text_table import SHORTENED, WIDTH, Table


def make_runs(tmp_path, values, layers=("block0/linear1/kernel",), numbers=None):
    """Runs with R_med `values[optimizer][repeat][step]` in every layer, numbered from 1 on."""
    numbers = numbers or range(1, 1 + len(layers))
    runs = []
    for optimizer, repeats in values.items():
        for repeat, steps in enumerate(repeats):
            run = RunRecords(tmp_path / optimizer / str(repeat))
            for step, value in steps.items():
                run.losses[step] = LossRow(optimizer, repeat, step, 0.0, 1.5)
                run.geometry[step] = [
                    GeometryRow(optimizer, repeat, step, 0.0, 2.0 + step, n, name, "r_med", value)
                    for n, name in zip(numbers, layers, strict=True)
                ]
            runs.append(run)
    return runs


def test_ratio_is_the_mean_of_each_repeats_ratio(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{10: 8.0}, {10: 6.0}], "adam": [{10: 2.0}, {10: 6.0}]})
    (table,) = compare(runs, ("sgdm", "adam"), [10])
    assert table.header == ["#", "layer", "10:SGD+M", "Adam", "ratio"]
    assert table.rows[0] == [*("1", "block0/linear1", "7.00 (1.41)", "4.00 (2.83)", "2.50 (2.12)")]
    assert table.rows[-1][-1] == "1 of 1"


def test_repeats_are_paired_by_their_numbers(tmp_path):
    sgdm = [{4: 1.0}, {10: 10.0}, {10: 100.0}]
    runs = make_runs(tmp_path, {"sgdm": sgdm, "adam": [{10: 100.0}, {10: 10.0}, {10: 100.0}]})
    (table,) = compare(runs, ("sgdm", "adam"), [10])
    assert table.rows[0][-1] == "1.00 (0.0)"


def test_common_start_has_one_column(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{0: 3.0, 5: 4.0}], "adam": [{0: 3.0, 5: 8.0}]})
    (table,) = compare(runs, ("sgdm", "adam"), [0, 5])
    assert table.header == ["#", "layer", "step 0", "5:SGD+M", "Adam", "ratio"]
    assert table.rows[0][2:] == ["3.00", "4.00", "8.00", "0.500"]


def test_a_layer_with_equal_numbers_has_no_ratio_above_one(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{5: 4.0, 9: 1.0}], "adam": [{5: 4.0, 9: 2.0}]})
    runs[0].geometry[5] = [dataclasses.replace(row, loss=1.0) for row in runs[0].geometry[5]]
    (table,) = compare(runs, ("sgdm", "adam"), [5])
    assert (table.rows[0][-1], table.rows[-1][-1]) == ("1.00", "0 of 1")


def test_counts_and_medians_are_over_whole_layers(tmp_path):
    """Q, K, V and the fused matrix share their entries; parts alone are counted as layers."""
    names, numbers = ["a", "b", "a[q]", "a[k]", "a[v]"], [1, 2, 101, 102, 103]
    runs = make_runs(tmp_path, {"sgdm": [{5: 4.0}], "adam": [{5: 2.0}]}, names, numbers)
    for run in runs:
        run.geometry[5][1] = dataclasses.replace(run.geometry[5][1], value=3.0)
    (table,) = compare(runs, ("sgdm", "adam"), [5])
    assert [row[-1] for row in table.rows[:5]] == ["2.00", "1.00", "2.00", "2.00", "2.00"]
    assert table.rows[-1][-1] == "1 of 2"
    assert StatisticTable(runs).medians("sgdm", 5) == {0: 3.5}

    for run in runs:
        run.geometry[5] = run.geometry[5][2:]
    (table,) = compare(runs, ("sgdm", "adam"), [5])
    assert table.rows[-1][-1] == "3 of 3"
    assert StatisticTable(runs).medians("sgdm", 5) == {0: 4.0}


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


def test_a_loss_that_neither_reaches_has_columns_of_dashes(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{10: 8.0}], "adam": [{4: 2.0}]})
    for run, name in zip(runs, ("sgdm", "adam"), strict=True):
        run.iterates["same_loss", 0.5] = IterateRow(name, 0, "same_loss", 0.5, -1, 1.2)
    (table,) = compare_at_losses(runs, ("sgdm", "adam"), (0.5,))
    assert table.header == ["#", "layer", "0.5:SGD+M", "Adam", "ratio"]
    assert table.rows[0][2:] == ["–", "–", "–"]
    assert len(table.notes) == 2


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


CELLS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=150)


@st.composite
def any_table(draw):
    width = draw(st.integers(2, 20))
    row = st.lists(CELLS, min_size=width, max_size=width)
    rows = draw(st.lists(row, max_size=4))
    return Table(draw(CELLS), draw(row), rows, draw(st.lists(CELLS, max_size=2)))


@given(any_table())
def test_no_table_is_wider_than_a_terminal(table):
    text = table.text()
    assert max(map(len, text.splitlines())) <= WIDTH
    short = [cell for row in table.rows for cell in row if len(cell) <= 20]
    assert all(cell in text for cell in short), "what isn't long is shown whole"


@pytest.mark.parametrize("wide", range(5))
def test_any_one_cell_may_be_long(wide):
    row = ["long/" * 40 if k == wide else str(k) for k in range(5)]
    for table in (Table("T", row, [list("abcde")], []), Table("T", list("abcde"), [row], [])):
        assert max(map(len, table.text().splitlines())) <= WIDTH
        assert "…" in table.text()


@pytest.mark.parametrize("length", [10, 48, 49, 80, 300])
@pytest.mark.parametrize("optimizer", ["adam", "adam_with_a_name_that_takes_half_of_the_terminal"])
def test_long_names_are_shortened_in_the_middle_and_that_is_said(tmp_path, length, optimizer):
    name = "encoder/" + "x" * (length - 14) + "/query"
    steps = {0: 1.5, 10: 1234.5}
    runs = make_runs(tmp_path, {"sgdm": [steps], optimizer: [steps | {10: 2.0}]}, [name])
    (run,) = [run for run in runs if run.geometry[0][0].optimizer == optimizer]
    run.evaluation[10] = [EvaluationRow(optimizer, 0, 10, 0.0, "m" * length, 0.5)]
    for table in (*compare(runs, ("sgdm", optimizer), [0, 10]), *held_out(runs)):
        text = table.text()
        assert max(map(len, text.splitlines())) <= WIDTH
        joined = text.replace("\n", " ")
        cells = [cell for row in [table.header, *table.rows] for cell in row]
        assert "…" in joined.replace(SHORTENED, "") or all(cell in text for cell in cells)
        assert ("…" in joined.replace(SHORTENED, "")) == (SHORTENED in joined)
        assert all(cell in table.markdown() for cell in cells)
    text = compare(runs, ("sgdm", optimizer), [0, 10])[-1].text()
    assert "encoder/" in text
    assert "/query" in text
    assert name in text or length > 48 or optimizer != "adam"
    assert name not in text or length < 80


def test_columns_that_do_not_fit_go_on_below():
    header = ["#", "layer", *(f"a column with number {k}" for k in range(9))]
    table = Table("T", header, [["1", "a/b", *map(str, range(9))]], ["a note " * 20])
    lines = table.text().splitlines()
    titles = [line for line in lines if line.startswith("T")]
    assert titles == ["T", "T (continued)", "T (continued)"]
    assert sum("a/b" in line for line in lines) == 3
    assert "".join(lines[-2:]).count("note") == 20, "the notes once, wrapped"
    assert all(any(name in line for line in lines) for name in header)


def test_markdown_cells_may_hold_bars():
    assert (
        r"| 1 | a | ρ(\|g\|) |"
        in Table("T", ["#", "x", "y"], [["1", "a", "ρ(|g|)"]], []).markdown()
    )
