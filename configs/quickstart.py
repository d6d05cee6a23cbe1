"""The paper's central claim in a minute or two, on text that ships inside every CPython.

    python -m hgeo.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m hgeo.main --config=configs/quickstart.py:smoke --workdir=runs/smoke

A Transformer language model (2 blocks, width 128, 2,000 words) on `pydoc_data.topics`, trained by
SGD with momentum and by Adam from the same weights; 8 layers, probed at steps 0, 100, 200, 300.
The text, and so the numbers, differ a little between Python versions.

Hardware: 2 CPU cores. Time: 1 min 59 s on an AMD EPYC, compilation included; `smoke`: seconds.
Expected: Adam's loss is lower; R_med of SGD+M above that of Adam in at least 5 of 8 layers at
step 300.

Learning rates, by mean training loss of the last 25 of 300 steps (seed 0, Python 3.11):
SGD+M 0.01: 4.52, 0.02: 4.24, 0.05: 3.81, 0.1: 3.44, **0.2: 3.19**, 0.5: diverged;
Adam 5e-4: 3.42, 1e-3: 2.95, **2e-3: 2.45**, 5e-3: 2.11. SGD+M has the best of its grid; Adam, as
in the paper, a rate at which its loss is lower. Each is one run of the command above with,
say, `--config.optimizers="('sgdm',)" --config.compare="()" --config.sgdm.learning_rate=0.1
--config.probe.steps="()"` and a separate work folder.
"""

from ml_collections import ConfigDict

from configs.common import ADAM, check_scale, make_config, optimizer, optional

SCALES = ("default", "smoke")


def get_config(scale: str = "default") -> ConfigDict:
    """The config at a scale: `configs/quickstart.py` or `configs/quickstart.py:smoke`."""
    check_scale("quickstart", scale, SCALES)
    smoke = scale == "smoke"
    return make_config(
        "lm",
        {
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
            "batch_size": 8 if smoke else 64,
            "sgdm": optimizer(0.2, momentum=0.9),
            "adam": optimizer(2e-3, **ADAM),
            "probe": {
                "steps": (0, 3, 6) if smoke else (0, 100, 200, 300),
                "layers": tuple(range(1, 9)),
                "num_coordinates": 4 if smoke else 100,
                "batch_size": 16 if smoke else 64,
            },
            "evaluation": {"steps": (), "batch_size": 8 if smoke else 64},
        },
    )
