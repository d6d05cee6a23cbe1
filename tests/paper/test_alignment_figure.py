"""Figures of gradients and updates, sorted by curvature."""

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.alignment_figure import _draw


def test_what_a_log_scale_cannot_show_is_counted():
    entries = np.array([0.0, 0.0, 1.0, 2.0])
    figure = Figure()
    _draw(figure.subplots(2, 1), entries, np.array([0.0, 1.0, 2.0, 3.0]), np.ones(4))
    gradient, update, *curvatures = figure.axes
    assert gradient.get_ylabel() == "|g| (log scale; 1 zeros not shown)"
    assert update.get_ylabel() == "|u| (log scale)"
    for axes in curvatures:
        assert axes.get_ylabel() == "|H_ii| (log scale; 2 zeros not shown)"
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), [np.nan, np.nan, 1.0, 2.0])
