"""Training a linear network under one update rule: many seeds at once, the steps in `lax.scan`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.paper.linear.measures import MEASURES, leading_direction
from experiments.paper.linear.networks import Weights, gradient_factors, initial_weights, product
from experiments.paper.linear.updates import Rule
from hgeo.errors import InputError

# Weights that are trained at once: more would not fit into the processor's caches.
WEIGHTS_AT_ONCE = 2**18


@dataclasses.dataclass(frozen=True)
class Setup:
    """A network of square layers and one output, and how it is trained.

    Attributes:
      width: d ≥ 2: inputs and hidden units; W_1, …, W_{L−1} are d×d and W_L is 1×d.
      depth: L ≥ 2.
      rule: SGD+M or Adam of equation (3).
      initial_std: standard deviation of the Gaussian initial weights, positive.
      steps: updates, at least 1; rounded up to whole multiples of `record_every`.
      record_every: the loss is kept at every step, the measure at every so many.
      measure: a key of `MEASURES`.
      target_low, target_high: the targets A_j are uniform between them, both positive.
      noise_variance: σ² ≥ 0 of the batch's input covariance and targets around the true ones,
        entry by entry (assumption 3); 0 is the full batch.

    Raises:
      InputError: a value out of these bounds.
    """

    width: int
    depth: int
    rule: Rule
    initial_std: float
    steps: int
    record_every: int
    measure: str
    target_low: float
    target_high: float
    noise_variance: float

    def __post_init__(self):
        """Checks the values."""
        for name, least in (("width", 2), ("depth", 2), ("steps", 1), ("record_every", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not self.initial_std > 0:
            raise InputError(f"initial_std must be positive, not {self.initial_std}")
        if not 0 < self.target_low <= self.target_high:
            raise InputError(
                "targets must be positive: 0 < target_low <= target_high, not "
                f"{self.target_low} and {self.target_high}"
            )
        if not self.noise_variance >= 0:
            raise InputError(f"noise_variance must not be negative, but is {self.noise_variance}")
        if self.measure not in MEASURES:
            raise InputError(f"measure must be one of {', '.join(MEASURES)}, not {self.measure!r}")
        if self.measure.endswith("r_diag") and self.depth != 2:
            raise InputError(f"the measure {self.measure!r} is for depth 2, not {self.depth}")


def train_seeds(setup: Setup, seed: int, num_seeds: int) -> dict[str, np.ndarray]:
    """Trains independent draws of initial weights, targets and noise; compiled once.

    Args:
      setup: the network and its training.
      seed: of the whole; seed k of n is the same for any n.
      num_seeds: how many, at least 1.

    Returns:
      Arrays of one row a seed:
      `loss`, shape (n, T+1), exact, before each of the T steps and after the last;
      what the measure gives, shape (n, R, …), at steps 0, `record_every`, …, T, listed in `step`;
      `u`, shape (n, d), the left vector W_1 v of `leading_direction` at the end.

    Raises:
      InputError: no seeds.
    """
    if num_seeds < 1:
        raise InputError(f"num_seeds must be at least 1, not {num_seeds}")
    at_once = max(1, min(num_seeds, WEIGHTS_AT_ONCE // setup.width**2))
    with jax.enable_x64(True):
        keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.key(seed), k))(
            jnp.arange(num_seeds, dtype=jnp.uint32)
        )
        run = jax.jit(lambda keys: jax.lax.map(lambda k: train(setup, k), keys, batch_size=at_once))
        results = {name: np.asarray(values) for name, values in run(keys).items()}
    return results | {"step": np.arange(results["r_med"].shape[1]) * setup.record_every}


def train(setup: Setup, key: jax.Array) -> dict[str, jax.Array]:
    """One seed of `train_seeds`, not compiled, in the default floating dtype."""
    weights_key, target_key, noise_key = jax.random.split(key, 3)
    dtype = jnp.zeros(()).dtype
    widths = [setup.width] * setup.depth + [1]
    weights = initial_weights(weights_key, widths, setup.initial_std, dtype)
    shape = (1, setup.width)
    target = jax.random.uniform(target_key, shape, dtype, setup.target_low, setup.target_high)
    measure = MEASURES[setup.measure]
    states = tuple(setup.rule.init(weight) for weight in weights)

    def one_step(carry, step):
        weights, states, _ = carry
        loss, error = batch_error(setup, weights, target, jax.random.fold_in(noise_key, step))
        stepped = [
            setup.rule.update(weight, a.T @ b, state, step.astype(dtype))
            for weight, state, (a, b) in zip(
                weights, states, gradient_factors(weights, error), strict=True
            )
        ]
        new = tuple(weight for weight, _ in stepped)
        return (new, tuple(state for _, state in stepped), weights), loss

    def one_record(carry, first):
        weights, _, before = carry
        updates = jax.tree.map(jnp.subtract, weights, before)
        recorded = measure(weights, updates, target)
        carry, losses = jax.lax.scan(one_step, carry, first + jnp.arange(setup.record_every))
        return carry, (losses, recorded)

    firsts = jnp.arange(0, setup.steps, setup.record_every)
    start = (weights, states, weights)
    (weights, _, before), (losses, recorded) = jax.lax.scan(one_record, start, firsts)
    updates = jax.tree.map(jnp.subtract, weights, before)
    last = measure(weights, updates, target)
    loss = 0.5 * jnp.sum((product(weights) - target) ** 2)
    recorded = jax.tree.map(lambda all, one: jnp.concatenate([all, one[None]]), recorded, last)
    return {
        **recorded,
        "loss": jnp.append(losses.ravel(), loss),
        "u": leading_direction(weights)[1],
    }


def batch_error(
    setup: Setup, weights: Weights, target: jax.Array, key: jax.Array
) -> tuple[Any, jax.Array]:
    """The exact loss, and the batch's ∂L/∂(W_L ⋯ W_1), both at the same weights.

    With P = W_L ⋯ W_1, the batch's input covariance I + N and targets A + n, the error is
    P(I + N) − (A + n). The entries of N and n are independent Gaussians of variance σ² and drawn
    anew at each step; P N is then Gaussian with entries of variance σ²‖P‖², which is what is drawn.
    """
    network = product(weights)
    error = network - target
    loss = 0.5 * jnp.sum(error**2)
    if setup.noise_variance:
        std = setup.noise_variance**0.5 * jnp.sqrt(1 + jnp.sum(network**2))
        error = error + std * jax.random.normal(key, error.shape, error.dtype)
    return loss, error
