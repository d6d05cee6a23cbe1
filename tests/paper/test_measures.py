"""What is made of records: agreement with the paper, gaps, leading shares; by hand-made numbers."""

import numpy as np
import pytest

from experiments.paper.comparison import agreement, moment
from experiments.paper.gaps import speed_gap, uniformity_gap
from experiments.paper.loss_figure import make_curve, speed_ratios
from experiments.paper.low_rank_figures import leading_share
from hgeo.records.run_records import LossRow, RunRecords


def row(ours, paper, step="10", first=(1.0, 1.0)):
    return {
        "layer": 3,
        "step": step,
        "step_of_second": step,
        "ours_ratio": ours,
        "paper_ratio": paper,
        "paper_first": first[0],
        "ours_first": first[1],
        "paper_second": None,
        "ours_second": 2.0,
    }


def test_agreement_counts_sides_of_one():
    found = [
        row(2.0, 3.0, first=(1.0, 10.0)),
        row(0.5, 3.0, first=(2.0, 30.0)),
        row(0.5, 0.9, first=(3.0, 20.0)),
        row(float("inf"), 1.5, first=(4.0, 40.0)),
        row(float("nan"), 1.5, first=(None, 40.0)),
        row(None, 0.4, first=(None, None)),
        row(2.0, None, first=(None, 1.0)),
    ]
    told = agreement(found)
    assert (told["agree"], told["compared"]) == (3, 4)
    assert (told["above"], told["known"]) == (3, 5)
    assert (told["paper_above"], told["paper_known"]) == (4, 6)
    assert told["first"] == pytest.approx(0.8)
    assert np.isnan(told["second"])


def test_agreement_leaves_the_common_start_out_of_ratios():
    told = agreement([row(1.0, 1.0, step="0")])
    assert told["compared"] == told["known"] == told["paper_known"] == 0


@pytest.mark.parametrize(
    ("paper", "ours", "title"),
    [
        ("loss 3.72", "loss 3.72", "loss 3.72"),
        ("loss 1.90", "loss 1.9", "loss 1.90"),
        ("loss 0.251", "loss 0.68", "loss 0.68 (paper's 0.251)"),
        ("loss 0.251", "none", "loss 0.251"),
        ("epoch 30", "step 300 of 600", "epoch 30"),
    ],
)
def test_panels_name_our_losses(paper, ours, title):
    assert moment({"checkpoint": paper, "our_checkpoint": ours}) == title


def records(folder, losses, optimizer="sgd", start=0):
    run = RunRecords(folder)
    run.losses = {
        start + step: LossRow(optimizer, 0, start + step, 0.0, loss)
        for step, loss in enumerate(losses)
    }
    return run


def test_gaps_in_speed(tmp_path):
    slow = records(tmp_path, np.linspace(10.0, 5.0, 101))
    fast = records(tmp_path, np.linspace(10.0, 0.0, 101))
    # The lower loss of the slow one, 5.0 at step 100, is reached by the fast one at step 50.
    assert speed_gap([slow], [fast], 100, 1) == pytest.approx(101 / 51)
    assert speed_gap([fast], [slow], 100, 1) == pytest.approx(51 / 101)
    assert speed_gap([slow], [fast], 50, 1) == pytest.approx(51 / 26)
    assert speed_ratios([slow], [fast], 1) == pytest.approx(101 / 51)
    later = records(tmp_path, np.linspace(10.0, 0.0, 101), start=300)
    assert speed_ratios([slow], [later], 1, since_start=True) == pytest.approx(101 / 51)
    # From an iterate of the slow one at step 60, both count from there.
    switched = records(tmp_path, np.linspace(7.0, 1.0, 41), start=60)
    assert speed_ratios([slow], [switched], 1) == pytest.approx(41 / 15)
    assert speed_gap([slow], [records(tmp_path, [])], 100, 1) is None
    assert speed_gap([slow], [fast], 24, 25) is None, "no whole window of losses yet"


def test_curve_of_repeats_ends_with_the_shortest(tmp_path):
    long, short = (records(tmp_path, np.ones(n), start=20) for n in (80, 41))
    curve = make_curve([long, short], 1, since_start=True)
    assert curve.losses.shape == (2, len(curve.steps))
    assert (curve.steps[0], curve.steps[-1]) == (0, 40)
    assert not curve.diverged
    assert make_curve([records(tmp_path, [1.0, np.inf])], 1, False).diverged


def test_gap_in_uniformity_is_of_the_layers_medians():
    first = [{0: 2.0, 1: 8.0, 2: 1e9}, {0: 9.0, 1: 9.0}, {0: np.inf, 1: 1.0}, {0: 1.0, 1: 1.0}]
    second = [{0: 1.0, 1: 1.0}, {0: 3.0, 1: 3.0}, {0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.0}]
    first, second = [*first, {0: np.inf, 1: 2.0}], [*second, {0: np.inf, 1: 2.0}]
    found = uniformity_gap(first, second)
    assert (found["repeats"], found["layers"]) == (2, 4)
    assert (found["not_finite"], found["undefined"]) == (2, 1)
    assert found["ratio_median"] == pytest.approx(np.sqrt(np.sqrt(2.0 * 3.0) * 1.0))
    assert found["above_1"] == 3
    assert found["first_median"] == pytest.approx(6.0)  # of 1, 4, 9 and inf
    assert found["ratio_by_repeat"] == "2.44949 1"
    ends = [found[f"ratio_median_{end}"] for end in ("low", "high")]
    # Student's t of one degree of freedom times the standard error of log(2.449) and log(1).
    half = 12.7062 * np.log(2.44949) / 2
    assert ends == pytest.approx(np.exp(np.log(2.44949) / 2 + np.array([-half, half])), rel=1e-4)
    assert np.isnan(uniformity_gap([{0: 1.0}], [{1: 1.0}])["ratio_median"])


def test_leading_share_of_a_rank_one_and_of_an_orthogonal_matrix():
    assert leading_share(np.array([0.0] * 19 + [3.0])) == 1.0
    assert leading_share(np.ones(20)) == pytest.approx(0.1)
