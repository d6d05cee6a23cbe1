"""A small ResNet on CIFAR-10, where Adam is not expected to be the more uniform one.

    python -m hgeo.main --config=configs/resnet.py:cpu --config.data_dir=DIR --workdir=runs/resnet

TODO
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

SCALES = {
    "paper": {
        "limit": None,
        "channels": (16, 32, 64),
        "steps": 2050,
        "checkpoint_every": 50,
        "batch_size": 1000,
        "learning_rates": {"sgdm": 0.5, "adam": 0.005},
        "probe_steps": (0, 500, 1000, 2000),
        "num_coordinates": 200,
        "probe_batch_size": 1000,
        "evaluation_steps": (1000, 2050),
        "evaluation_batch_size": 1000,
    },
    "cpu": {
        "limit": None,
        "channels": (16, 32, 64),
        "steps": 400,
        "checkpoint_every": 0,
        "batch_size": 128,
        "learning_rates": {"sgdm": 0.1, "adam": 0.005},
        "probe_steps": (0, 100, 200, 400),
        "num_coordinates": 100,
        "probe_batch_size": 256,
        "evaluation_steps": (200, 400),
        "evaluation_batch_size": 250,
    },
    "smoke": {
        "limit": 64,
        "channels": (4, 6, 8),
        "steps": 6,
        "checkpoint_every": 0,
        "batch_size": 8,
        "learning_rates": {"sgdm": 0.05, "adam": 0.005},
        "probe_steps": (0, 6),
        "num_coordinates": 4,
        "probe_batch_size": 16,
        "evaluation_steps": (6,),
        "evaluation_batch_size": 40,
    },
}


def get_config(scale: str = "cpu") -> ConfigDict:
    """The config at a scale: `configs/resnet.py:paper`, `:cpu` or `:smoke`."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; configs/resnet.py has {', '.join(SCALES)}")
    at = SCALES[scale]
    optional = lambda value: FieldReference(value, field_type=int)  # an int or None
    return ConfigDict(
        {
            "workload": "resnet",
            "seed": 0,
            "repeats": 1,
            "share": "1/1",
            "probe_only": "",
            "data_dir": "",
            "data": {
                "split": "train",
                "limit": optional(at["limit"]),
                "held_out_split": "test",
                "held_out_limit": optional(at["limit"]),
            },
            "model": {
                "channels": at["channels"],
                "blocks": (1, 1, 1),
                "initializer": "torch",
                "gain": 1.0,
            },
            "steps": at["steps"],
            "checkpoint_every": at["checkpoint_every"],
            "keep_checkpoints": "all",
            "batch_size": at["batch_size"],
            "optimizers": ("sgdm", "adam"),
            "compare": (("sgdm", "adam"),),
            "sgdm": {
                "learning_rate": at["learning_rates"]["sgdm"],
                "learning_rate_from": "",
                "momentum": 0.9,
                "weight_decay": 0.0,
            },
            "adam": {
                "learning_rate": at["learning_rates"]["adam"],
                "learning_rate_from": "",
                "b1": 0.9,
                "b2": 0.98,
                "eps": 1e-8,
                "weight_decay": 0.0,
            },
            "learning_rate_schedule": {
                "kind": "constant",
                "warmup_steps": 0,
                "drop_every": 0,
                "drop_factor": 1.0,
            },
            "max_gradient_norm": 0.0,
            "same_loss": {"losses": (), "window": 25},
            "probe": {
                "steps": at["probe_steps"],
                "layers": tuple(range(1, 11)),
                "num_coordinates": at["num_coordinates"],
                "batch_size": at["probe_batch_size"],
                "batch_norm": "train",
                "mode": "auto",
                "precision": "highest",
                "chunk_size": "auto",
                "microbatch_size": optional(None),
            },
            "evaluation": {
                "steps": at["evaluation_steps"],
                "batch_size": at["evaluation_batch_size"],
            },
        }
    )
