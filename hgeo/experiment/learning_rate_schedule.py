"""Schedules of the learning rate, as factors common to all optimizers that are compared."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.config import Config
from hgeo.errors import InputError

KINDS = ("constant", "linear", "step")


def make_factor(schedule: Config, steps: int) -> Callable[[jax.Array], Any]:
    """The learning rate's factor at each step, from `config.learning_rate_schedule`.

    Args:
      schedule: `kind`: `"constant"`, 1; `"linear"`, 1 − step/steps, as Hugging Face decays it;
        `"step"`, drop_factor^⌊step/drop_every⌋. Each times (step + 1)/warmup_steps before
        `warmup_steps`.
      steps: updates in all.

    Raises:
      InputError: an unknown kind, or numbers out of range.
    """
    kind, warmup = schedule.kind, schedule.warmup_steps
    every, drop = schedule.drop_every, schedule.drop_factor
    if kind not in KINDS:
        raise InputError(f"learning_rate_schedule.kind must be one of {KINDS}, not {kind!r}")
    if warmup < 0:
        raise InputError(f"learning_rate_schedule.warmup_steps must be 0 or more, not {warmup}")
    if kind == "step" and (every < 1 or not 0 < drop <= 1):
        raise InputError(
            "learning_rate_schedule.kind='step' needs drop_every of at least 1 and drop_factor in "
            f"(0, 1], not {every} and {drop}"
        )

    def factor(step):
        now = jnp.asarray(step, jnp.float32)
        decayed = {
            "constant": lambda: jnp.ones_like(now),
            "linear": lambda: jnp.maximum(0.0, 1 - now / steps),
            "step": lambda: jnp.float32(drop) ** jnp.floor(now / every),
        }[kind]()
        return decayed * jnp.minimum(1.0, (now + 1) / warmup) if warmup else decayed

    return factor
