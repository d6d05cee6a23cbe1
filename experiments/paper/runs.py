"""The paper's sets of runs: which config each takes, and what it changes in it.

A set is trained by hgeo's own `run_experiment`, in a folder that its config's hash names: whoever
asks for the same set again, for another table, finds it there.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from hgeo.config import Config
from hgeo.workloads.workload import PARTS

# Of one repeat of two optimizers at `cpu` scale, on 2 cores.
MINUTES = {"lm": 3, "resnet": 10, "translation": 35, "bert": 14}


@dataclasses.dataclass(frozen=True)
class RunSet:
    """Runs that are trained together.

    Attributes:
      config: the file below `configs/` that they start from.
      shows: what they are, in a few words.
      changes: the values of keys (`probe.eps`) or blocks of the config that differ from the file's.
      at: more of them by scale.
      moments: where they are probed, as shares of training in exact fractions (numerator,
        denominator): those of the paper's checkpoints, and what lies between.
      derived: gives more changes from the config that all others have made.
      repeats: by scale.
      probes_of: another set, whose checkpoints are probed as this one says; nothing is trained.
    """

    config: str
    shows: str
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    moments: tuple[tuple[int, int], ...] = ()
    derived: Callable[[Config], Mapping[str, Any]] = lambda config: {}
    repeats: Mapping[str, int] = dataclasses.field(default_factory=dict)
    probes_of: str = ""


LARGE_SCALES = ("paper", "gpu", "cpu")

TRANSLATION_STATISTICS = ("r_med", "r_med_spread", "alignment", "preconditioned", "low_rank")
STATISTICS = ("r_med", "r_med_spread", "alignment", "preconditioned")

# The paper's protocol at `cpu`: its updates, its coordinates, the layers of its tables, and Q, K, V
# of the in-projections of table 2. SGD+M has the best rate of a grid of factor 2 that is stable on
# all orders of the data, Adam the smallest of another that beats it.
_OF_TABLES = (3, 5, 7, 9, 12, 13, 14, 15, 16, 17, 18, 21, 24, 26, 27, 28, 29, 30)
_QUERY_KEY_VALUE = tuple(PARTS * n + k for n in (5, 9, 15, 21) for k in (1, 2, 3))
_TRANSLATION_AT_CPU = {
    "steps": 1800,
    "sgdm.learning_rate": 0.05,
    "adam.learning_rate": 5e-4,
    "probe.num_coordinates": 200,
    "evaluation.steps": (1800,),
}


def _translation_at(
    layers: tuple[int, ...] = (*_OF_TABLES, *_QUERY_KEY_VALUE), **more: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """What a set of translation runs changes by scale; `paper` has all layers."""
    at = {
        "cpu": {**_TRANSLATION_AT_CPU, "probe.layers": layers},
        "gpu": {"probe.layers": layers},
        "smoke": {"probe.layers": (*range(1, 11), 101, 102, 103)},
    }
    return {scale: at.get(scale, {}) | more.get(scale, {}) for scale in at.keys() | more.keys()}


_EPOCHS_OF_60 = tuple((epoch, 60) for epoch in (0, 10, 20, 30, 40, 55))
_TRANSLATION = {"probe.statistics": TRANSLATION_STATISTICS}
_THREE = {"paper": 8, "gpu": 3, "cpu": 3, "smoke": 2}
_SIX = {**_THREE, "gpu": 6, "cpu": 6}
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
    )


def _switch(config: Config) -> dict[str, Any]:
    adam = config.adam.to_dict()
    block = {"optimizer": "adam", "start_run": "sgd", "start_step": config.steps // 2, **adam}
    return {"adam_after_sgd": block}


def _branch(config: Config) -> dict[str, Any]:
    sgdm = {"optimizer": "sgdm", "start_loss": config.same_loss.losses[0], **config.sgdm.to_dict()}
    return {
        "same_loss.losses": (),
        "sgdm_from_sgdm": {**sgdm, "start_run": "sgdm"},
        "sgdm_from_adam": {**sgdm, "start_run": "adam"},
    }


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
    return RunSet("lm", f"language model at its start, gain {gain:g}", changes, at, ((0, 1),))


def _size(width: int, depth: int) -> RunSet:
    """A language model of another size; `smoke` keeps its own, except the depth."""
    layers = tuple(range(1, 4 * depth + 1))
    changes = {**_PAIR, "model.num_blocks": depth, "probe.layers": layers}
    sizes = {"model.width": width, "model.ffn_width": width}
    shows = f"language model of width {width} and {depth} blocks"
    at = {scale: dict(sizes) for scale in LARGE_SCALES}
    return RunSet("lm", shows, changes, at, ((20, 40), (40, 40)))


def _decay(weight_decay: float) -> RunSet:
    return RunSet(
        "translation",
        f"translation with weight decay {weight_decay:g}",
        {
            "probe.statistics": STATISTICS,
            "sgdm.weight_decay": weight_decay,
            "adam.weight_decay": weight_decay,
        },
        _translation_at(),
        moments=((0, 60), (30, 60), (55, 60)),
        repeats=_THREE,
    )


# Rates that Optax's optimizers are usually given; AdamW has Adam's.
_NEW = {
    "optimizers": ("adamw", "lion", "muon"),
    "compare": (("adamw", "lion"),),
    "adamw": {
        "learning_rate": 1e-3,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-9,
        "weight_decay": 1e-2,
    },
    "lion": {"learning_rate": 1e-4, "b1": 0.9, "b2": 0.99, "weight_decay": 0.0},
    "muon": {"learning_rate": 1e-2, "adam_learning_rate": 1e-3},
}

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
    "translation": RunSet(
        "translation",
        "translation under SGD+M and Adam",
        _TRANSLATION,
        _translation_at(),
        moments=_EPOCHS_OF_60,
        repeats=_SIX,
    ),
    "translation_random": RunSet(
        "translation",
        "translation, random targets",
        {
            "probe.statistics": STATISTICS,
            "data.random_targets_seed": 0,
            "probe.eps": 1e-6,
            "evaluation.steps": (),
        },
        _translation_at(
            paper={"sgdm.learning_rate": 0.015, "adam.learning_rate": 5e-5},
            gpu={"sgdm.learning_rate": 0.015, "adam.learning_rate": 5e-5},
            cpu={"evaluation.steps": ()},
        ),
        moments=((0, 60), (30, 60), (55, 60)),
        repeats=_THREE,
    ),
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
    "translation_weight_decay": _decay(1e-3),
    "translation_weight_decay_01": _decay(1e-2),
    "translation_weight_decay_1": _decay(1e-1),
    "translation_adaptive": RunSet(
        "translation",
        "translation under RMSprop and AMSGrad",
        _TRANSLATION | {"optimizers": ("rmsprop", "amsgrad"), "compare": (("rmsprop", "amsgrad"),)},
        _translation_at(),
        moments=((10, 60), (20, 60), (40, 60)),
        repeats=_THREE,
    ),
    "translation_switch": RunSet(
        "translation",
        "translation under SGD without momentum, and Adam from its middle on",
        _TRANSLATION
        | {"optimizers": ("sgd", "adam_after_sgd"), "compare": (("sgd", "adam_after_sgd"),)},
        _translation_at((*range(13, 18), *range(26, 31))),
        moments=((30, 60), (55, 60)),
        derived=_switch,
        repeats=_THREE,
    ),
    "translation_same_loss": RunSet(
        "translation",
        "translation at equal training loss: the same runs, probed elsewhere",
        _TRANSLATION | {"same_loss.losses": (3.72, 2.78, 1.90)},
        _translation_at(smoke={"same_loss.losses": (4.0,), "same_loss.window": 1}),
        moments=_EPOCHS_OF_60,
        repeats=_SIX,
    ),
    "translation_branch": RunSet(
        "translation",
        "SGD+M from iterates of SGD+M and of Adam with the same loss",
        {
            "optimizers": ("sgdm", "adam", "sgdm_from_sgdm", "sgdm_from_adam"),
            "compare": (("sgdm_from_sgdm", "sgdm_from_adam"),),
            "evaluation.steps": (),
            "probe.layers": (3, 12, 15, 21, 28),
            "same_loss.losses": (3.72,),
        },
        _translation_at(
            (3, 12, 15, 21, 28),
            cpu={"evaluation.steps": ()},
            smoke={"probe.layers": (3, 7), "same_loss.losses": (4.5,), "same_loss.window": 1},
        ),
        moments=((60, 60),),
        derived=_branch,
        repeats=_THREE,
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
        probes_of="lm_adam",
    ),
    "lm_new": _lm("xavier_uniform", 1.0, "language model under AdamW, Lion and Muon", **_NEW),
    "translation_new": RunSet(
        "translation",
        "translation under AdamW, Lion and Muon",
        _TRANSLATION | _NEW,
        _translation_at(),
        moments=((30, 60), (55, 60)),
        repeats=_THREE,
    ),
    **{
        f"lm_size_{width}_{depth}": _size(width, depth)
        for width, depth in ((32, 2), (64, 2), (128, 2), (64, 1), (64, 4))
    },
}
