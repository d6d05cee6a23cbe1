"""The sets of translation runs."""

from collections.abc import Mapping
from typing import Any

from experiments.paper.run_set import STATISTICS, RunSet
from hgeo.config import Config
from hgeo.records.layer_numbers import PARTS

TRANSLATION_STATISTICS = (*STATISTICS, "low_rank")

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


TRANSLATION_RUNS = {
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
}
