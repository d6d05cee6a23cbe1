"""Runs of the quickstart at `smoke` scale, changed, and what they wrote."""

import jax
import numpy as np
import orbax.checkpoint as ocp

from tests.experiments import load_config, rows

# One optimizer, one layer, two coordinates: what takes the least time to compile.
LEAST = {
    "probe__layers": (4,),
    "model__num_blocks": 1,
    "probe__num_coordinates": 2,
    "optimizers": ("sgdm",),
    "compare": (),
    "same_loss__window": 1,
    "sgdm__learning_rate": 0.02,
}

SWITCH = {
    "optimizer": "adam",
    "start_run": "sgdm",
    "start_step": 4,
    "learning_rate": 1e-3,
}


def smoke(**changes):
    config = load_config("quickstart", "smoke", probe__layers=(4,), model__num_blocks=1)
    blocks = {k: changes.pop(k) for k in list(changes) if isinstance(changes[k], dict)}
    with config.unlocked():
        for name, block in blocks.items():
            config[name] = block
    for key, value in changes.items():
        *groups, last = key.split("__")
        part = config
        for group in groups:
            part = part[group]
        with part.ignore_type():
            part[last] = value
    return config


def least(**changes):
    """The smallest run, changed."""
    return load_config("quickstart", "smoke", **(LEAST | changes))


def stored(folder, name, step):
    manager = ocp.CheckpointManager((folder / f"runs/{name}/repeat_0/checkpoints").absolute())
    state = manager.restore(step, args=ocp.args.StandardRestore())
    manager.close()
    return state


def losses_of(folder, name):
    return {
        int(r["step"]): float(r["loss"]) for r in rows(folder, "losses") if r["optimizer"] == name
    }


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
