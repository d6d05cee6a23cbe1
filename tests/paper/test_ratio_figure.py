"""The figure of a table's ratios: what its legend and its axis name."""

import pytest

from experiments.paper import ratio_table


def _row(setting, layer, ours, paper):
    return {
        "setting": setting,
        "checkpoint": "epoch 1",
        "our_checkpoint": "step 3",
        "first": "sgdm",
        "second": "adam",
        "step": "3",
        "step_of_second": "3",
        "layer": layer,
        "ours_ratio": ours,
        "ours_ratio_low": ours / 2 if layer == 1 else None,
        "ours_ratio_high": float("inf") if layer == 1 else None,
        "paper_ratio": paper,
        "paper_ratio_std": None,
    }


def test_the_legend_names_all_that_any_panel_shows():
    rows = [_row("BERT", 9, 2.0, None), _row("translation", 3, 0.5, 1.5)]
    figure = ratio_table._figure(rows)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "paper"]


@pytest.mark.parametrize(("highest", "named"), [(4.0, {"0.5", "1", "2"}), (3e3, {"1", "100"})])
def test_numbers_on_the_axis_are_plain(highest, named):
    figure = ratio_table._figure([_row("", 1, 0.4, None), _row("", 2, highest, None)])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    shown = {
        label.get_text()
        for label in axes.get_yticklabels(which="both")
        if low <= label.get_position()[1] <= high
    } - {""}
    assert named <= shown
    assert all(float(text) > 0 for text in shown)
