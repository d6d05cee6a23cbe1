"""What the experiments' configs share: every default, once.

A config file gives only what differs, and `make_config` adds the rest:

    make_config("lm", {"steps": 600, "data": {...}, "probe": {"steps": (0, 600), ...}, ...})
"""

from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

# Adam's settings in the paper's translation and language models.
ADAM = {"b1": 0.9, "b2": 0.98, "eps": 1e-9}


def optional(value: int | None) -> FieldReference:
    """A key that takes an int or `None`."""
    return FieldReference(value, field_type=int)


def optimizer(learning_rate: float, **settings: float) -> dict[str, Any]:
    """An optimizer's block.

    Args:
      learning_rate: η. `learning_rate_from`, a `tuning.json` of `hgeo.tune`, takes its place.
      settings: of this optimizer (`momentum`, `b1`, `eps`, …); `weight_decay` is 0 by default.
    """
    return {
        "learning_rate": learning_rate,
        "learning_rate_from": "",
        "weight_decay": 0.0,
        **settings,
    }


def check_scale(file: str, scale: str, scales: Collection[str]) -> None:
    """Raises a ValueError if a config file lacks a scale."""
    if scale not in scales:
        raise ValueError(f"unknown scale {scale!r}; configs/{file}.py has {', '.join(scales)}")


def make_config(workload: str, given: Mapping[str, Any]) -> ConfigDict:
    """The config of a workload: the given keys, and the default of every other key."""
    return ConfigDict(_merged({"workload": workload, **_defaults()}, given))


def _defaults() -> dict[str, Any]:
    return {
        "seed": 0,
        "repeats": 1,
        "runs_together": 1,
        "share": "1/1",
        "probe_only": "",
        "data_dir": "",
        "checkpoint_every": 0,
        "keep_checkpoints": "all",
        "optimizers": ("sgdm", "adam"),
        "compare": (("sgdm", "adam"),),
        "learning_rate_schedule": {
            "kind": "constant",
            "warmup_steps": 0,
            "drop_every": 0,
            "drop_factor": 1.0,
        },
        "max_gradient_norm": 0.0,
        "same_loss": {
            "losses": (),
            "of": "",
            "by": "training",
            "window": 25,
            "every": 25,
        },
        "probe": {
            "statistics": ("r_med",),
            "eps": 0.0,
            "dropout": False,
            "low_rank_share": 0.9,
            "num_matvecs": 30,
            "num_samples": 4,
            "max_gradients": 20000.0,
            "mode": "auto",
            "precision": "highest",
            "chunk_size": "auto",
            "remat": "auto",
            "microbatch_size": optional(None),
        },
    }


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **given}
    for key in defaults.keys() & given.keys():
        if isinstance(defaults[key], Mapping):
            merged[key] = _merged(defaults[key], given[key])
    return merged
