"""The paper's sets of runs, by name.

A set is trained by hgeo's own `run_experiment`, in a folder that its config's hash names: whoever
asks for the same set again, for another table, finds it there.
"""

from typing import Any

from experiments.paper.run_set import LARGE_SCALES, STATISTICS, RunSet
from experiments.paper.translation_runs import TRANSLATION_RUNS
from experiments.paper.verdict_rules import LEAST_REPEATS
from hgeo.config import Config
from hgeo.records.layer_numbers import ALL

# Of one run at `cpu` scale, on 2 cores.
MINUTES = {"lm": 1.5, "lm_optimizers": 1.5, "resnet": 5, "translation": 17.5, "bert": 7}

_PAIR = {"optimizers": ("sgdm", "adam"), "compare": (("sgdm", "adam"),)}
_SGD_ADAGRAD = {"optimizers": ("sgd", "adagrad"), "compare": (("sgd", "adagrad"),)}


def _lm(initializer: str, gain: float, shows: str, **changes: Any) -> RunSet:
    return RunSet(
        "lm",
        shows,
        {
            "probe.statistics": STATISTICS,
            "model.initializer": initializer,
            "model.gain": gain,
            **_SGD_ADAGRAD,
            **{key.replace("__", "."): value for key, value in changes.items()},
        },
        moments=((0, 40), (1, 40), (20, 40), (40, 40)),
        repeats={"cpu": LEAST_REPEATS},
    )


def _gain(gain: float) -> RunSet:
    # Narrow enough for all eigenvalues of a layer's Hessian (4,096 weights).
    changes = {
        "probe.statistics": ("r_med", "spectrum", "condition_number"),
        "probe.layers": (2, 6),
        "probe.batch_size": 16,
        "probe.microbatch_size": None,
        "optimizers": ("sgd",),
        "compare": (),
        "evaluation.steps": (),
        "steps": 1,
        "model.initializer": "xavier_uniform",
        "model.gain": gain,
    }
    at = {scale: {"model.width": 64} for scale in LARGE_SCALES}
    shows = f"language model at its start, gain {gain:g}"
    return RunSet("lm", shows, changes, at, ((0, 1),), minutes=8)


def _size(width: int, depth: int) -> RunSet:
    """A language model of another size; `smoke` keeps its own, except the depth."""
    layers = tuple(range(1, 4 * depth + 1))
    changes = {**_PAIR, "model.num_blocks": depth, "probe.layers": layers}
    sizes = {"model.width": width, "model.ffn_width": width}
    shows = f"language model of width {width} and {depth} blocks"
    at = {scale: dict(sizes) for scale in LARGE_SCALES}
    return RunSet("lm", shows, changes, at, ((20, 40), (40, 40)))


_RATE_REPEATS = {"paper": 3, "gpu": 3, "cpu": LEAST_REPEATS, "smoke": 2}

# Up to the best of SGD+M's grid, and to four times the rate that Adam has elsewhere.
_RATES = {"sgdm": (0.025, 0.05, 0.1), "adam": (5e-4, 1e-3, 2e-3, 4e-3)}


def _at_rates(config: Config) -> dict[str, Any]:
    blocks = {
        f"{name}_{k}": {**config[name].to_dict(), "optimizer": name, "learning_rate": rate}
        for name, rates in _RATES.items()
        for k, rate in enumerate(rates, start=1)
    }
    return {"optimizers": tuple(blocks), "compare": (), **blocks}


RUN_SETS = {
    "lm_uniform_2": _lm("xavier_uniform", 2.0, "language model, uniform initial weights, gain 2"),
    "lm_uniform": _lm("xavier_uniform", 1.0, "language model, uniform initial weights, gain 1"),
    "lm_normal_2": _lm("xavier_normal", 2.0, "language model, normal initial weights, gain 2"),
    "lm_normal": _lm("xavier_normal", 1.0, "language model, normal initial weights, gain 1"),
    "lm_random": _lm(
        "xavier_uniform",
        1.0,
        "language model, random targets",
        data__random_targets_seed=0,
        probe__eps=1e-6,
    ),
    "lm_adam": _lm("xavier_uniform", 1.0, "language model under SGD+M and Adam", **_PAIR),
    "resnet": RunSet(
        "resnet",
        "ResNet on CIFAR-10",
        {"probe.statistics": ("r_med", "r_med_spread", "preconditioned")},
        moments=((0, 41), (10, 41), (20, 41), (40, 41)),
    ),
    **TRANSLATION_RUNS,
    "bert": RunSet(
        "bert",
        "BERT fine-tuned on IMDB",
        {"probe.statistics": STATISTICS},
        moments=((0, 2500), (750, 2500), (1250, 2500), (2500, 2500)),
        repeats={"paper": 12, "gpu": 6, "cpu": 3, "smoke": 2},
    ),
    "bert_same_loss": RunSet(
        "bert",
        "BERT at equal training loss: the same runs, probed elsewhere",
        {"probe.statistics": STATISTICS},
        {
            "paper": {"same_loss.losses": (0.251, 0.170, 0.133)},
            "gpu": {"same_loss.losses": (0.251, 0.170, 0.133)},
            "cpu": {"same_loss.losses": (0.68, 0.65, 0.62)},
            "smoke": {"same_loss.losses": (0.69,), "same_loss.window": 1},
        },
        moments=((0, 2500), (750, 2500), (1250, 2500), (2500, 2500)),
    ),
    **{f"section31_{gain:g}": _gain(gain) for gain in (1.0, 10.0, 100.0, 800.0)},
    "bert_rows": RunSet(
        "bert",
        "BERT's rows: r_diag within and across four layers",
        {
            "probe.statistics": ("r_diag", "r_diag_across"),
            "probe.layers": (6, 12, 17, 22),
        },
        {
            "cpu": {"probe.num_coordinates": 8},
            "smoke": {"probe.layers": (6, 12), "probe.num_coordinates": 2},
        },
        moments=((0, 2500), (750, 2500), (1250, 2500), (2500, 2500)),
        probes_of="bert",
    ),
    "lm_full": RunSet(
        "lm",
        "the language model's whole diagonals, last block",
        {"probe.statistics": ("r_med", "r_med_spread", "full"), "probe.layers": (6, 7, 8)},
        moments=((0, 40), (1, 40), (20, 40), (40, 40)),
        probes_of="lm_uniform",
    ),
    "lm_tokens": RunSet(
        "lm",
        "the language model's head, its columns by the words' frequency",
        {"probe.statistics": ("r_med",), "probe.layers": (9, 901, 902, 903, 904)},
        {"cpu": {"probe.num_coordinates": 200}, "smoke": {"probe.layers": (9, 901, 902)}},
        moments=((0, 40), (20, 40), (40, 40)),
        repeats={"cpu": LEAST_REPEATS},
        probes_of="lm_adam",
    ),
    "lm_optimizers": RunSet(
        "lm_optimizers",
        "language model under newer optimizers at tuned rates",
        repeats={"cpu": LEAST_REPEATS},
    ),
    "lm_rates": RunSet(
        "lm",
        "language model under SGD+M and Adam at several learning rates",
        {"probe.statistics": ("r_med",), "model.initializer": "xavier_uniform"},
        moments=((40, 40),),
        derived=_at_rates,
        repeats=_RATE_REPEATS,
    ),
    "lm_sharpness": RunSet(
        "lm",
        "the same runs' preconditioned sharpness, of all weights together",
        {
            "probe.statistics": ("preconditioned_spectrum",),
            "probe.layers": (ALL,),
            "probe.num_matvecs": 20,
            "probe.num_samples": 2,
        },
        repeats=_RATE_REPEATS,
        probes_of="lm_rates",
    ),
    **{
        f"lm_size_{width}_{depth}": _size(width, depth)
        for width, depth in ((32, 2), (64, 2), (128, 2), (64, 1), (64, 4))
    },
}
