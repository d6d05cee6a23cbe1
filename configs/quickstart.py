"""placeholder"""

from ml_collections import ConfigDict

SCALES = ("default", "smoke")


def get_config(scale: str = "default") -> ConfigDict:
    """The config at a scale: `configs/quickstart.py` or `configs/quickstart.py:smoke`."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; configs/quickstart.py has {', '.join(SCALES)}")
    smoke = scale == "smoke"
    return ConfigDict(
        {
            "workload": "lm",
            "seed": 0,
            "repeats": 1,
            "data_dir": "",
            "data": {
                "source": "pydoc",
                "split": "",
                "tokenizer": "words",
                "vocabulary_size": 100 if smoke else 2000,
                "sequence_length": 8 if smoke else 35,
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
            "batch_size": 8 if smoke else 64,
            "optimizers": ("sgdm", "adam"),
            "compare": (("sgdm", "adam"),),
            "sgdm": {"learning_rate": 0.2, "momentum": 0.9},
            "adam": {"learning_rate": 2e-3, "b1": 0.9, "b2": 0.98, "eps": 1e-9},
            "probe": {
                "steps": (0, 3, 6) if smoke else (0, 100, 200, 300),
                "layers": tuple(range(1, 9)),
                "mode": "forward_over_reverse",
                "precision": "highest",
                "chunk_size": 4 if smoke else 2,
                "microbatch_size": None,
                "num_coordinates": 4 if smoke else 50,
                "batch_size": 16 if smoke else 64,
            },
        }
    )
