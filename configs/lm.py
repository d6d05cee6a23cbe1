"""The language model of the PyTorch tutorial on Wikitext-2, under four optimizers.

    python -m hgeo.main --config=configs/lm.py:cpu --config.data_dir=DIR --workdir=runs/lm

DIR holds `wikitext-2/wiki.{train,valid,test}.tokens`; `data.split` is the training split, and
`data.held_out_split` the evaluation split. `--config.data.random_targets_seed=0` replaces
the targets by random words.

Scales: `paper`, the tutorial's width 200 on the train split, 9,120 steps of 256 sequences = 40
epochs of 228 (58,571 sequences of 35), probed at epochs 0, 1, 20 and 40 at 200 coordinates, meant
for a GPU or TPU and not yet run in full; `gpu`, the same with checkpoints at probes alone; `cpu`,
width 128 and the 4,000 most frequent words on the valid split, 600 steps of 64 sequences; `smoke`,
seconds, on the test split. The paper's learning rates, batch and gains for this task are lost:
those here are ours.

At `paper`, from the compiled programs (`python -m hgeo.footprint --config=configs/lm.py:paper
--config.data.split=valid --config.probe.num_coordinates=1 --config.probe.chunk_size=1`, one CPU
device; the valid split's 12,000 words): 5,296,000 parameters (12,025,582 with the train split's
words); an update 158 GFLOP and 1.05 GiB of temporaries, a probe of one coordinate a layer on 32
sequences 61 GFLOP and 0.59 GiB.

Hardware: 2 CPU cores. Time at `cpu`: 3 min 54 s.
Expected: the adaptive methods' losses lower; R_med of SGD above Adagrad's in most layers, and of
SGD+M above Adam's in most layers at step 600.

Learning rates at `cpu`, by mean training loss of the last 50 of 600 steps (seed 0); SGD and SGD+M
have the best of their grids, Adagrad and Adam a rate at which their loss is lower:
SGD 0.1: 5.44, **0.2: 5.25**, 0.5: 5.77, 0.7: 5.79, 1: diverged;
SGD+M 0.02: 5.26, 0.05: 4.92, **0.1: 4.60**, 0.2: diverged;
Adam 5e-4: 4.34, **1e-3: 3.88**, 2e-3: 3.33;
Adagrad 0.005: 4.42, 0.01: 3.98, **0.02: 3.62**, 0.03: 4.40, 0.05: 5.71.
Each is one run of the command above with, say, `--config.optimizers="('sgd',)"
--config.compare="()" --config.sgd.learning_rate=0.1` and a separate work folder.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import ADAM, check_scale, make_config, optimizer, optional

_PAPER: dict[str, Any] = {
    "split": "train",
    "held_out_split": "valid",
    "vocabulary_size": None,
    "width": 200,
    "ffn_width": 200,
    "sequence_length": 35,
    "steps": 9120,
    "checkpoint_every": 228,
    "batch_size": 256,
    "probe_steps": (0, 228, 4560, 9120),
    "num_coordinates": 200,
    "probe_batch_size": 256,
    "microbatch_size": 32,
    "evaluation_steps": (228, 4560, 9120),
}

SCALES = {
    "paper": _PAPER,
    "gpu": {**_PAPER, "checkpoint_every": 0},
    "cpu": {
        "split": "valid",
        "held_out_split": "test",
        "vocabulary_size": 4000,
        "width": 128,
        "ffn_width": 128,
        "sequence_length": 35,
        "steps": 600,
        "checkpoint_every": 0,
        "batch_size": 64,
        "probe_steps": (0, 100, 300, 600),
        "num_coordinates": 100,
        "probe_batch_size": 64,
        "microbatch_size": None,
        "evaluation_steps": (600,),
    },
    "smoke": {
        "split": "test",
        "held_out_split": "test",
        "vocabulary_size": 100,
        "width": 16,
        "ffn_width": 16,
        "sequence_length": 8,
        "steps": 6,
        "checkpoint_every": 0,
        "batch_size": 8,
        "probe_steps": (0, 3, 6),
        "num_coordinates": 5,
        "probe_batch_size": 16,
        "microbatch_size": 8,
        "evaluation_steps": (6,),
    },
}


def get_config(scale: str = "cpu") -> ConfigDict:
    """The config at a scale: `configs/lm.py:paper`, `:gpu`, `:cpu` or `:smoke`."""
    check_scale("lm", scale, SCALES)
    at = SCALES[scale]
    return make_config(
        "lm",
        {
            "data": {
                "source": "wikitext2",
                "split": at["split"],
                "held_out_split": at["held_out_split"],
                "tokenizer": "basic_english",
                "vocabulary_size": optional(at["vocabulary_size"]),
                "sequence_length": at["sequence_length"],
                "random_targets_seed": optional(None),
            },
            "model": {
                "width": at["width"],
                "num_heads": 2,
                "ffn_width": at["ffn_width"],
                "num_blocks": 2,
                "dropout": 0.0,
                "initializer": "torch",
                "gain": 1.0,
            },
            "steps": at["steps"],
            "checkpoint_every": at["checkpoint_every"],
            "batch_size": at["batch_size"],
            "optimizers": ("sgd", "sgdm", "adam", "adagrad"),
            "compare": (("sgdm", "adam"), ("sgd", "adagrad")),
            "sgd": optimizer(0.2),
            "sgdm": optimizer(0.1, momentum=0.9),
            "adam": optimizer(1e-3, **ADAM),
            "adagrad": optimizer(0.02, eps=1e-10),
            "probe": {
                "steps": at["probe_steps"],
                "layers": tuple(range(1, 9)),
                "num_coordinates": at["num_coordinates"],
                "batch_size": at["probe_batch_size"],
                "microbatch_size": optional(at["microbatch_size"]),
            },
            "evaluation": {"steps": at["evaluation_steps"], "batch_size": at["batch_size"]},
        },
    )
