"""The lines of a table of ratios: beyond the paper there are no columns of the paper."""

import pytest

from experiments.paper import ratio_table

# What every row has, with the paper's numbers.
ROW = {
    "layer": 3,
    "name": "block0/linear1",
    "setting": "lion",
    "checkpoint": "loss 5",
    "our_checkpoint": "loss 5",
    "step": "40 41",
    "step_of_second": "20 21",
    "paper_first": 8.0,
    "paper_second": 4.0,
    "paper_ratio": 2.0,
    "paper_ratio_std": None,
    "ours_first": 6.0,
    "ours_first_std": 0.5,
    "ours_second": 2.0,
    "ours_second_std": 0.1,
    "ours_ratio": 3.0,
    "ours_ratio_low": 2.5,
    "ours_ratio_high": 3.5,
    "ours_mean_ratio": 3.1,
    "ours_ratio_std": 0.2,
    "q95_ratio": 2.9,
    "q95_ratio_low": 2.4,
    "q95_ratio_high": 3.4,
}


@pytest.mark.parametrize("of_paper", [True, False])
@pytest.mark.parametrize("settings", [["lion"], ["lion", "muon"]])
def test_each_cell_stands_below_its_head(settings, of_paper):
    header = ratio_table._header(settings, of_paper)
    cells = ratio_table._cells(ROW, settings, of_paper)
    assert len(header) == len(cells)
    named = dict(zip(header[::-1], cells[::-1], strict=True))  # the first of equal names
    assert named["ours: first"] == "6.00 (0.500)"
    assert named["ours at"] == "loss 5 (40 41, 20 21)"
    assert named["95%"] == "2.50 to 3.50"
    assert ("paper at" in header, "same side of 1" in header) == (of_paper, of_paper)
    assert ("setting" in header) == (len(settings) > 1)
