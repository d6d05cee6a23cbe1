"""Schedules of the learning rate: factors common to all compared optimizers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.errors import InputError

KINDS = ("constant", "linear", "step")

Factor = Callable[[jax.Array], Any]


@dataclasses.dataclass(frozen=True)
class LearningRateSchedule:
    """How the learning rate changes.

    Attributes:
      kind: `"constant"`, a factor of 1; `"linear"`, 1 − step/steps, as Hugging Face decays it;
        `"step"`, drop_factor^⌊step/drop_every⌋.
      warmup_steps: the factors of earlier steps are multiplied by (step + 1)/warmup_steps; 0 for
        none.
      drop_every: of `"step"`.
      drop_factor: of `"step"`.
    """

    kind: str
    warmup_steps: int
    drop_every: int
    drop_factor: float


def make_factor(schedule: LearningRateSchedule, steps: int) -> Factor:
    """The learning rate's factor at each step.

    Args:
      schedule: of the learning rate.
      steps: the number of updates.

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
