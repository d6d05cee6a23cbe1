"""The Transformer of the PyTorch translation tutorial on Multi30k, German to English.

    python -m hgeo.main --config=configs/translation.py:cpu --config.data_dir=DIR --workdir=runs/mt

DIR holds `multi30k/{train,val,test_2016_flickr}.{de,en}.gz`. Other comparisons of the paper:
`--config.optimizers="('sgdm','rmsprop','amsgrad')" --config.compare="(('sgdm','rmsprop'),)"`;
`--config.data.random_targets_seed=0` replaces the targets by random words (at scale `paper`
with `--config.sgdm.learning_rate=0.015 --config.adam.learning_rate=5e-5`);
`--config.{sgdm,adam}.weight_decay=0.001` adds weight decay.

Every sentence is padded to `data.max_length` tokens (no length buckets); pairs with a longer
sentence are left out of training, and counted. The held-out split keeps all pairs; BLEU is that of
tokenised text. Tokenised arrays are cached in `cache_dir`.

Scales: `paper`, the tutorial's model (width 512), 1,800 updates of 960 pairs = 60 epochs, dropout
0.1 as in the tutorial; `gpu`, the same with at most 32 tokens, the ten layers of the paper's table
2 on 240 pairs, checkpoints at probes alone, for one card; `cpu`, width 128, the 6,000 most frequent
words, 600 updates of 128 pairs, 50 coordinates of each of 30 layers on 64 pairs, no dropout;
`smoke`, seconds. The paper's AMSGrad betas are lost: hgeo takes Adam's.

Hardware: 2 CPU cores. Time at `cpu`: 13 min 11 s, on a busy machine.
Expected at `cpu`, over three repeats: mean training loss of the last 5% 2.74 to 2.77 under SGD+M,
1.77 to 1.78 under Adam; BLEU of the test split 15.6 to 17.4 and 28.8 to 29.8 (greedy); Adam's R_med
is smaller in 21 to 23 of 30 layers at step 200, in 13 to 18 at 400.

At `paper`, from the compiled programs (`python -m hgeo.footprint
--config=configs/translation.py:paper --steps=0 --config.probe.num_coordinates=1
--config.probe.chunk_size=1 --config.probe.batch_size=16`, one CPU device): 33,189,965 parameters
with the regex tokeniser (with the tutorial's vocabularies 33,570,389, as the original); an update
5.14 TFLOP and 21.6 GiB of temporaries, a probe of one coordinate a layer on 16 pairs 568 GFLOP and
2.0 GiB.

Learning rates at `cpu`, by mean training loss of the last 5% of 600 steps (seed 0): SGD+M **0.05:
2.77**, 0.1: 2.64, 0.2: 5.50; Adam 5e-4: 2.21, **1e-3: 1.78**; AMSGrad 1e-3: 1.92; RMSprop **5e-5:
2.22**, 2e-4: 5.50. (`python -m hgeo.tune --config=configs/translation.py:cpu --optimizer=sgdm
--learning_rates=0.05,0.1,0.2 --config.data_dir=DIR --workdir=D`.) SGD+M has 0.05, since 0.1 is not
stable on the second of three orders of the data (`--config.repeats=3`: 5.48 at the last step).
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import ADAM, check_scale, make_config, optimizer, optional

_PAPER: dict[str, Any] = {
    "max_length": 48,
    "vocabulary_size": None,
    "width": 512,
    "num_heads": 8,
    "ffn_width": 512,
    "num_blocks": 3,
    "dropout": 0.1,
    "steps": 1800,
    "checkpoint_every": 90,
    "batch_size": 960,
    "learning_rates": {
        "sgd": 0.03,
        "sgdm": 0.03,
        "adam": 1e-4,
        "rmsprop": 2.5e-5,
        "amsgrad": 5e-4,
    },
    "layers": tuple(range(1, 31)),
    "probe_steps": (0, 300, 600, 900, 1200, 1650),
    "num_coordinates": 200,
    "probe_batch_size": 960,
    "microbatch_size": 16,
    "evaluation_steps": (600, 1200, 1800),
    "evaluation_batch_size": 200,
    "beam_size": 4,
}

SCALES = {
    "paper": _PAPER,
    "gpu": {
        **_PAPER,
        "max_length": 32,
        "checkpoint_every": 0,
        "layers": (3, 5, 7, 9, 12, 15, 18, 21, 24, 28),
        "probe_batch_size": 240,
        "evaluation_steps": (1800,),
    },
    "cpu": {
        "max_length": 20,
        "vocabulary_size": 6000,
        "width": 128,
        "num_heads": 4,
        "ffn_width": 128,
        "num_blocks": 3,
        "dropout": 0.0,
        "steps": 600,
        "checkpoint_every": 0,
        "batch_size": 128,
        "learning_rates": {
            "sgd": 0.2,
            "sgdm": 0.05,
            "adam": 1e-3,
            "rmsprop": 5e-5,
            "amsgrad": 1e-3,
        },
        "layers": tuple(range(1, 31)),
        "probe_steps": (0, 200, 400, 600),
        "num_coordinates": 50,
        "probe_batch_size": 64,
        "microbatch_size": None,
        "evaluation_steps": (600,),
        "evaluation_batch_size": 200,
        "beam_size": 1,
    },
    "smoke": {
        "max_length": 12,
        "vocabulary_size": 100,
        "width": 16,
        "num_heads": 2,
        "ffn_width": 16,
        "num_blocks": 1,
        "dropout": 0.0,
        "steps": 6,
        "checkpoint_every": 0,
        "batch_size": 8,
        "learning_rates": {
            "sgd": 0.1,
            "sgdm": 0.1,
            "adam": 1e-2,
            "rmsprop": 1e-3,
            "amsgrad": 1e-2,
        },
        "layers": tuple(range(1, 11)),
        "probe_steps": (0, 6),
        "num_coordinates": 4,
        "probe_batch_size": 16,
        "microbatch_size": None,
        "evaluation_steps": (6,),
        "evaluation_batch_size": 200,
        "beam_size": 2,
    },
}


def get_config(scale: str = "cpu") -> ConfigDict:
    """The config at a scale: `configs/translation.py:paper`, `:gpu`, `:cpu` or `:smoke`."""
    check_scale("translation", scale, SCALES)
    at = SCALES[scale]
    rates = at["learning_rates"]
    return make_config(
        "translation",
        {
            "cache_dir": "~/.cache/hgeo",
            "data": {
                "split": "train",
                "held_out_split": "test",
                "tokenizer": "regex",
                "max_length": at["max_length"],
                "longer": "drop",
                "min_frequency": 1,
                "vocabulary_size": optional(at["vocabulary_size"]),
                "random_targets_seed": optional(None),
            },
            "model": {
                "width": at["width"],
                "num_heads": at["num_heads"],
                "ffn_width": at["ffn_width"],
                "num_encoder_blocks": at["num_blocks"],
                "num_decoder_blocks": at["num_blocks"],
                "dropout": at["dropout"],
                "initializer": "xavier_uniform",
                "gain": 1.0,
            },
            "steps": at["steps"],
            "checkpoint_every": at["checkpoint_every"],
            "batch_size": at["batch_size"],
            "sgd": optimizer(rates["sgd"]),
            "sgdm": optimizer(rates["sgdm"], momentum=0.9),
            "adam": optimizer(rates["adam"], **ADAM),
            "amsgrad": optimizer(rates["amsgrad"], **ADAM),
            "rmsprop": optimizer(rates["rmsprop"], decay=0.99, momentum=0.9, eps=1e-8),
            "probe": {
                "steps": at["probe_steps"],
                "layers": at["layers"],
                "num_coordinates": at["num_coordinates"],
                "batch_size": at["probe_batch_size"],
                "microbatch_size": optional(at["microbatch_size"]),
            },
            "evaluation": {
                "steps": at["evaluation_steps"],
                "batch_size": at["evaluation_batch_size"],
                "bleu": True,
                "beam_size": at["beam_size"],
            },
        },
    )
