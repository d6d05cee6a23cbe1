import numpy as np
import pytest

from hgeo.records.run_records import LossRow
from hgeo.report.figures import loss_and_r_med, loss_curves, render, smooth
from tests.report.test_tables import make_runs

OPTIMIZERS = ("sgdm", "adam")


@pytest.fixture
def runs(tmp_path):
    values = {"sgdm": [{0: 2.0, 10: 8.0}, {0: 2.0, 10: 4.0}], "adam": [{0: 2.0, 10: np.inf}] * 2}
    runs = make_runs(tmp_path, values, ["a/kernel", "b/kernel", "c/kernel"])
    for run in runs:
        (name, repeat) = run.geometry[0][0].optimizer, run.geometry[0][0].repeat
        run.losses = {
            step: LossRow(name, repeat, step, 0.0, 3.0 - 0.1 * step) for step in range(11)
        }
        first, second, third = run.geometry[0]
        run.geometry[0] = [
            first,
            second,
            type(third)(
                *[50.0 if field == "value" else getattr(third, field) for field in third.__slots__]
            ),
        ]
    return runs


def drawn(axes):
    """Points of each line that has a marker, by the line's style."""
    return {
        (line.get_linestyle(), line.get_color()): line.get_xydata()
        for line in axes.lines
        if line.get_marker() not in ("None", "") and len(line.get_xydata())
    }


def test_loss_and_r_med_share_the_axis_of_steps(runs):
    above, below = loss_and_r_med(runs, OPTIMIZERS).axes
    assert above.get_shared_x_axes().joined(above, below)
    lines = drawn(below)
    np.testing.assert_array_equal(lines["-", "#D55E00"], [[0, 2.0], [10, 6.0]], "medians, averaged")
    np.testing.assert_array_equal(lines["--", "#D55E00"], [[0, 50.0], [10, 6.0]], "layer 3")
    np.testing.assert_array_equal(lines["-", "#0072B2"], [[0, 2.0]], "inf is no point of the line")
    np.testing.assert_array_equal(lines["None", "#0072B2"], [[10, 1.0]], "it is at the top edge")
    text = [entry.get_text() for entry in below.get_legend().get_texts()]
    assert text == ["median over the layers (NaN left out)", "layer 3: c"]
    assert below.get_xlabel().endswith(
        "bars: range over the repeats; hollow at the top edge: not finite (2)"
    )


def test_one_layer_can_be_chosen(runs):
    below = loss_and_r_med(runs, OPTIMIZERS, layer_number=2).axes[1]
    np.testing.assert_array_equal(drawn(below)["--", "#D55E00"], [[0, 2.0], [10, 6.0]])
    with pytest.raises(ValueError, match="layer_number is 9; R_med was recorded of layers 1, 2, 3"):
        loss_and_r_med(runs, OPTIMIZERS, layer_number=9)


def test_all_params_together_can_be_chosen(tmp_path):
    runs = make_runs(tmp_path, {"sgdm": [{0: 2.0}]}, ["all params", "a"], [0, 1])
    legend = loss_and_r_med(runs, OPTIMIZERS, layer_number=0).axes[1].get_legend()
    assert legend.get_texts()[1].get_text() == "layer 0: all params"


def test_losses_are_drawn_at_their_own_steps(runs):
    """A run that branches off starts later, and one that diverged has steps without a loss."""
    (run, *_) = runs
    run.losses = {s: LossRow("sgdm", 0, s, 0.0, np.nan if s == 7 else 1.0) for s in range(5, 9)}
    raw = loss_curves([run], OPTIMIZERS).axes[0].lines[0]
    np.testing.assert_array_equal(raw.get_xdata(), [5, 6, 8])


def test_the_legend_names_each_optimizer_once_whatever_repeats_there_are(runs):
    for own in (runs, [run for run in runs if run.geometry[0][0].repeat == 1]):
        legend = loss_curves(own, OPTIMIZERS).axes[0].get_legend()
        assert [entry.get_text() for entry in legend.get_texts()] == ["SGD+M", "Adam"]


def test_runs_without_any_value_have_figures(runs):
    for run in runs:
        run.geometry, run.losses = {}, {0: LossRow("sgdm", 0, 0, 0.0, np.nan)}
    image = render(loss_and_r_med(runs, OPTIMIZERS))
    assert image.png.startswith(b"\x89PNG")


def test_svg_is_the_same_for_the_same_figure(runs):
    one, other = (render(loss_and_r_med(runs, OPTIMIZERS)) for _ in range(2))
    assert one == other


def test_smoothing_keeps_means_at_the_centres_of_windows():
    steps, losses = smooth(np.arange(100.0), np.arange(100.0) % 2)
    np.testing.assert_allclose(steps, np.arange(99) + 0.5)
    np.testing.assert_allclose(losses, 0.5)
