"""The paper's central claim in a minute or two, on text that ships inside every CPython.

    python -m hgeo.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m hgeo.main --config=configs/quickstart.py:smoke --workdir=runs/smoke

A Transformer language model (2 blocks, width 128, 2,000 words) on `pydoc_data.topics`, trained by
SGD with momentum and by Adam from the same weights; 8 layers, probed at steps 0, 100, 200, 300.
The text differs a little between Python versions, and so do the numbers.

Hardware: 2 CPU cores. Time: 74 s, compilation included. `smoke` is the same in seconds.
Expected: Adam's loss the lower one; R_med of SGD+M above that of Adam in at least 5 of 8 layers at
step 300.

Learning rates, by mean training loss of the last 25 of 300 steps (seed 0, Python 3.11):
SGD+M 0.01: 4.52, 0.02: 4.24, 0.05: 3.81, 0.1: 3.44, **0.2: 3.19**, 0.5: diverged;
Adam 5e-4: 3.42, 1e-3: 2.95, **2e-3: 2.45**, 5e-3: 2.11. SGD+M has the best of its grid; Adam, as
in the paper, one under which it is faster than that. Each is one run of the command above with,
say, `--config.optimizers="('sgdm',)" --config.compare="()" --config.sgdm.learning_rate=0.1
--config.probe.steps="()"` and its own work folder.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference

SCALES = ("default", "smoke")


def get_config(scale: str = "default") -> ConfigDict:
    """The config at a scale: `configs/quickstart.py` or `configs/quickstart.py:smoke`."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; configs/quickstart.py has {', '.join(SCALES)}")
    smoke = scale == "smoke"
    optional = lambda value: FieldReference(value, field_type=int)  # an int or None
    return ConfigDict(
        {
            "workload": "lm",
            "seed": 0,
            "repeats": 1,
            "runs_together": 1,
            "share": "1/1",
            "probe_only": "",
            "data_dir": "",
            "data": {
                "source": "pydoc",
                "split": "",
                "held_out_split": "",
                "tokenizer": "words",
                "vocabulary_size": optional(100 if smoke else 2000),
                "sequence_length": 8 if smoke else 35,
                "random_targets_seed": optional(None),
            },
            "model": {
                "width": 16 if smoke else 128,
                "num_heads": 2,
                "ffn_width": 16 if smoke else 128,
                "num_blocks": 2,
                "dropout": 0.0,
                "initializer": "torch",
                "gain": 1.0,
            },
            "steps": 6 if smoke else 300,
            "checkpoint_every": 0,
            "keep_checkpoints": "all",
            "batch_size": 8 if smoke else 64,
            "optimizers": ("sgdm", "adam"),
            "compare": (("sgdm", "adam"),),
            "sgdm": {
                "learning_rate": 0.2,
                "learning_rate_from": "",
                "momentum": 0.9,
                "weight_decay": 0.0,
            },
            "adam": {
                "learning_rate": 2e-3,
                "learning_rate_from": "",
                "b1": 0.9,
                "b2": 0.98,
                "eps": 1e-9,
                "weight_decay": 0.0,
            },
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
                "steps": (0, 3, 6) if smoke else (0, 100, 200, 300),
                "layers": tuple(range(1, 9)),
                "num_coordinates": 4 if smoke else 100,
                "batch_size": 16 if smoke else 64,
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
                "microbatch_size": optional(None),
            },
            "evaluation": {"steps": (), "batch_size": 8 if smoke else 64},
        }
    )
