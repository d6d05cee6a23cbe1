"""A work folder's records, small and awkward: names that are markup, inf, NaN, missing values."""

import math

import numpy as np
from etils import epath
from rich.console import Console

from hgeo.records.run_records import EvaluationRow, GeometryRow, LossRow, RunRecords
from hgeo.report import write_report
from tests.experiments import load_config, summary_of

MARKUP = "</script><script>alert(1)</script>"
LONG = "decoder/" + 12 * "a_long_name/" + "out_proj/kernel"
LAYERS = ["encoder/in_proj/kernel", MARKUP, LONG, "head/kernel"]
OPTIMIZERS = ("sgdm", "adam")
STEPS = (0, 10, 20)

# R_med by optimizer and layer at the last step; the means of its two repeats.
AT_LAST = {"sgdm": [120.0, math.inf, 9.5, 1000.0], "adam": [4.0, 3.0, 20.0, math.nan]}


def write_demo(folder, command="python -m hgeo.main --config='a b'"):
    """Writes the report of two optimizers with two repeats each; returns its path."""
    config = load_config("quickstart", "smoke", data__source=MARKUP, repeats=2)
    with config.unlocked():
        config.probe.steps = STEPS
    records = make_records(folder)
    write_report(summary_of(config), records, epath.Path(folder), Console(quiet=True), (), command)
    return folder / "report.html"


def make_records(folder):
    return [_run(folder, name, repeat) for name in OPTIMIZERS for repeat in (0, 1)]


def _run(folder, name, repeat):
    run = RunRecords(folder / name / str(repeat))
    rate = 0.02 if name == "sgdm" else 0.05
    for step in range(21):
        run.losses[step] = LossRow(name, repeat, step, 0.0, 5.0 * np.exp(-rate * step) + repeat)
    for step in STEPS:
        late = step / STEPS[-1]
        r_med = [float(10 ** (1 - late) * v**late) for v in AT_LAST[name]]
        rho = [0.9 - 0.1 * late, 0.0, -0.5, math.nan]
        run.geometry[step] = [
            GeometryRow(name, repeat, step, 0.0, 2.0, n, layer, statistic, value)
            for n, layer in enumerate(LAYERS, start=1)
            for statistic, value in (
                ("r_med", r_med[n - 1] * (0.5 + repeat)),
                ("rho_gradient", rho[n - 1]),
            )
            if (step, statistic) != (10, "rho_gradient")
        ]
    run.evaluation[20] = [EvaluationRow(name, repeat, 20, 0.0, "accuracy", 0.5 + repeat / 10)]
    return run
