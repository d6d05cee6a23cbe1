"""A small ResNet on CIFAR-10, where Adam is not expected to be more uniform.

    python -m hgeo.main --config=configs/resnet.py:cpu --config.data_dir=DIR --workdir=runs/resnet

DIR holds `tfds/cifar10`. BatchNorm: `probe.batch_norm` says whether the probed loss takes the probe
batch's statistics (`train`, in which examples act on each other) or the running statistics
(`evaluation`). No augmentation: the loss must be the same function at every probe.

Scales: `paper`, 2,050 updates of 1,000 images = 41 epochs, probed at epochs 0, 10, 20 and 40;
`gpu`, the same with checkpoints at probes alone; `cpu`, 400 updates of 128 images, probed at 100
coordinates of each of the 10 layers on 256 images; `smoke`, seconds, 64 images and fewer channels.

Hardware: 2 CPU cores. Time at `cpu`: 9 min 30 s, on a busy machine.
Expected at `cpu` (seed 0): loss of the probe batch 0.99 under Adam, 1.07 under SGD+M; Adam is not
more uniform: its R_med is smaller in 3, 4 and 4 of 10 layers at steps 100, 200 and 400; test
accuracy about 45% under both.

At `paper`, from the compiled programs (`python -m hgeo.footprint --config=configs/resnet.py:paper
--config.probe.num_coordinates=1 --config.probe.chunk_size=1`, one CPU device): 98,522 parameters;
an update 83.5 GFLOP and 0.97 GiB of temporaries, a probe of one coordinate a layer 190 GFLOP and
1.5 GiB.

Learning rates at `cpu`, by mean training loss of the last 5% of 400 steps (seed 0), each the best
of its grid, as in the paper: SGD+M 0.05: 1.139, **0.1: 1.130**, 0.2: 1.286; Adam 0.001: 1.118,
**0.005: 1.048**. (`python -m hgeo.tune --config=configs/resnet.py:cpu --optimizer=sgdm
--learning_rates=0.05,0.1,0.2 --config.data_dir=DIR --workdir=D`.)
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import check_scale, make_config, optimizer, optional

_PAPER: dict[str, Any] = {
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
}

SCALES = {
    "paper": _PAPER,
    "gpu": {**_PAPER, "checkpoint_every": 0},
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
    """The config at a scale: `configs/resnet.py:paper`, `:gpu`, `:cpu` or `:smoke`."""
    check_scale("resnet", scale, SCALES)
    at = SCALES[scale]
    rates = at["learning_rates"]
    return make_config(
        "resnet",
        {
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
            "batch_size": at["batch_size"],
            "sgdm": optimizer(rates["sgdm"], momentum=0.9),
            "adam": optimizer(rates["adam"], b1=0.9, b2=0.98, eps=1e-8),
            "probe": {
                "steps": at["probe_steps"],
                "layers": tuple(range(1, 11)),
                "num_coordinates": at["num_coordinates"],
                "batch_size": at["probe_batch_size"],
                "batch_norm": "train",
            },
            "evaluation": {
                "steps": at["evaluation_steps"],
                "batch_size": at["evaluation_batch_size"],
            },
        },
    )
