"""The estimate of the time that is left."""

import io

from rich.console import Console

from hgeo.training.progress import Progress


def test_one_measurement_out_of_the_common_does_not_move_the_estimate():
    progress = Progress(Console(file=io.StringIO()))
    progress.expect({"probe": 10, "step": 100})
    progress.done("step", 20, 4.0, "")
    assert progress.estimate() == "estimating"  # no probe was timed yet
    for seconds in (30.0, 10.0, 0.1, 10.0):
        progress.done("probe", 1, seconds, "")
    assert progress.seconds_left() == 6 * 10.0 + 80 * 0.2


def test_the_estimate_follows_a_machine_that_becomes_slower():
    progress = Progress(Console(file=io.StringIO()))
    progress.expect({"probe": 16})
    for seconds in [1.0] * 10 + [4.0] * 5:
        progress.done("probe", 1, seconds, "")
    assert progress.seconds_left() == 4.0
