"""SGD+M and Adam exactly as equation (3) of the paper writes them, as pure functions of one array.

They differ from Optax's: Adam's bias corrections make up its step size, with ξ added to √v itself.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from hgeo.errors import InputError


class Rule(Protocol):
    """An update rule; `state` is a pytree of arrays like the weight."""

    def init(self, weight: jax.Array) -> Any:
        """The state before the first step."""
        ...

    def update(self, weight: jax.Array, gradient: jax.Array, state: Any, step: jax.Array) -> Any:
        """The weight and the state after step 0, 1, …, a scalar of the weight's dtype."""
        ...


@dataclasses.dataclass(frozen=True)
class SgdMomentum:
    """W(t+1) = W(t) − η Σ_{τ≤t} β^{t−τ} g(τ).

    Raises:
      InputError: η isn't positive, or β isn't in [0, 1).
    """

    learning_rate: float
    momentum: float

    def __post_init__(self):
        """Checks the numbers."""
        _positive("learning_rate", self.learning_rate)
        _below_one("momentum", self.momentum)

    def init(self, weight):
        """No gradient yet."""
        return jnp.zeros_like(weight)

    def update(self, weight, gradient, state, step):
        """One step."""
        total = self.momentum * state + gradient
        return weight - self.learning_rate * total, total


@dataclasses.dataclass(frozen=True)
class Adam:
    """W(t+1) = W(t) − η_t m/(√v + ξ), with η_t = η √(1−β₂^{t+1}) / (1−β₁^{t+1}).

    m ← β₁m + (1−β₁)g and v ← β₂v + (1−β₂)g² start at zero.

    Raises:
      InputError: η or ξ isn't positive, or a β isn't in [0, 1).
    """

    learning_rate: float
    b1: float
    b2: float
    xi: float

    def __post_init__(self):
        """Checks the numbers."""
        _positive("learning_rate", self.learning_rate)
        _positive("xi", self.xi)
        _below_one("b1", self.b1)
        _below_one("b2", self.b2)

    def init(self, weight):
        """No gradient yet."""
        return jnp.zeros_like(weight), jnp.zeros_like(weight)

    def update(self, weight, gradient, state, step):
        """One step."""
        mean, square = state
        mean = self.b1 * mean + (1 - self.b1) * gradient
        square = self.b2 * square + (1 - self.b2) * gradient**2
        size = (
            self.learning_rate * jnp.sqrt(1 - self.b2 ** (step + 1)) / (1 - self.b1 ** (step + 1))
        )
        return weight - size * mean / (jnp.sqrt(square) + self.xi), (mean, square)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} must be positive, not {value}")


def _below_one(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InputError(f"{name} must be at least 0 and below 1, not {value}")
