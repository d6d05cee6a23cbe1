"""The language model under AdamW, Lion and Muon at tuned rates, each against SGD+M at equal losses.

    python -m hgeo.main --config=configs/lm_optimizers.py:cpu --config.data_dir=DIR --workdir=D

DIR holds `wikitext-2/wiki.{train,valid,test}.tokens`. Model, data and scales are those of
`configs/lm.py`, with Xavier's uniform initial weights. Each run is probed where its smoothed
training loss first reaches 5.5, 5.0 and 4.7, and at its last step. Muon and Lion are Optax's; Muon
takes all matrices, the embedding too; Adam takes the rest at 2e-3, which was not tuned. No
maintained JAX package has SOAP or Shampoo.

Hardware: 2 CPU cores. Time at `cpu`: 58 min for six repeats, two shares on a core each.
Expected at `cpu`, over six repeats: AdamW and Muon reach 4.7 after 139 to 183 updates, SGD+M after
551 to 568, Lion never; R_med of SGD+M is below AdamW's in 7 of 8 layers there, and below Muon's in
all.

Learning rates at `cpu`, by mean training loss of the last 5% of 600 steps (seed 0):
SGD+M 0.05: 4.94, **0.1: 4.66**, 0.2: 5.75;
AdamW 1e-3: 3.82, 2e-3: 3.20, **4e-3: 2.99**, 8e-3: 5.42;
Lion 5e-5: 5.35, **1e-4: 4.86**, 2e-4: 4.88, 4e-4: 5.49, 8e-4: 5.55;
Muon 0.005: 3.53, **0.01: 3.19**, 0.02: 3.35, 0.04: 4.03.
(`python -m hgeo.tune --config=configs/lm_optimizers.py:cpu --optimizer=lion
--learning_rates=5e-5,1e-4,2e-4,4e-4,8e-4 --config.data_dir=DIR --workdir=D`.) The scales `paper`
and `gpu` have the same rates, untuned.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import lm
from configs.common import ADAM, optimizer

_OPTIMIZERS = ("sgdm", "adamw", "lion", "muon")


def get_config(scale: str = "cpu") -> ConfigDict:
    """The config at a scale: `configs/lm_optimizers.py:paper`, `:gpu`, `:cpu` or `:smoke`."""
    config: Any = lm.get_config(scale)
    config.model.initializer = "xavier_uniform"
    config.optimizers = _OPTIMIZERS
    config.compare = tuple(("sgdm", name) for name in _OPTIMIZERS[1:])
    config.adamw = optimizer(4e-3, **{**ADAM, "weight_decay": 1e-2})
    config.lion = optimizer(1e-4, b1=0.9, b2=0.99)
    config.muon = optimizer(1e-2, adam_learning_rate=2e-3)
    config.probe.steps = (config.steps,)
    config.checkpoint_every = config.steps // 6  # from which the runs are replayed to a loss
    config.keep_checkpoints = "measured"
    config.same_loss.losses = (5.5, 5.0, 4.7)
    if scale == "smoke":
        config.same_loss.losses = (4.7, 4.6, 4.5)
        config.same_loss.window = 1
    return config
