"""Fisher matrices as Hessians of losses, for every probe."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hgeo.arguments import check_function
from hgeo.curvature.gauss_newton import Head, Model
from hgeo.curvature.linearised import linearised
from hgeo.losses import Loss, Weighted, to_weighted

PyTree = Any
Sample = Callable[[jax.Array, PyTree, PyTree], PyTree]


def fisher(
    model: Model,
    head: Head,
    *,
    sample: Sample | None = None,
    key: jax.Array | None = None,
    num_samples: int = 1,
    example_axes: int = 1,
) -> Loss:
    """Builds a loss whose Hessian is a Fisher matrix of a model and its head.

        F = (1/N) Σ_n g_n g_nᵀ,   g_n = ∂ℓ_n/∂w

    With the batch's targets it is the empirical Fisher matrix. With targets drawn from the model,
    averaged over the draws, it is an unbiased estimate of the Fisher matrix, which equals the
    Gauss-Newton matrix for softmax cross-entropy and squared errors. Any probe takes this loss.

    Args:
      model: `model(params, batch) -> outputs`, a pytree of arrays whose leading axes count the
        examples.
      head: `head(outputs, batch)` -> the mean of the examples' losses, or `hgeo.Weighted` with
        their sum. It must not mix examples: the loss of example n depends on its outputs alone.
      sample: `sample(key, outputs, batch) -> batch`, with targets drawn from the distribution that
        the outputs parametrise; `None`: the batch's targets.
      key: random key of the draws, required with `sample`. Microbatches and devices all use it.
      num_samples: the number of draws of all targets.
      example_axes: the number of leading axes of the outputs that count the examples: 1, or 2 if
        each token of a sequence is an example.

    Returns:
      `loss(params, batch)`, of value 0; only its curvature is meaningful. F has the units of the
      loss squared over the weight's square.

    Raises:
      ValueError: only one of `sample` and `key` is given, or `num_samples` or `example_axes` is
        below 1. A call raises it for outputs with fewer axes than `example_axes`.

    Example:
      >>> model = lambda params, batch: batch["x"] @ params["kernel"]
      >>> def head(outputs, batch):
      ...     log_p = jax.nn.log_softmax(outputs)
      ...     return -jnp.mean(jnp.take_along_axis(log_p, batch["y"][:, None], axis=-1))
      >>> def sample(key, outputs, batch):
      ...     return batch | {"y": jax.random.categorical(key, outputs)}
      >>> loss = hgeo.fisher(model, head, sample=sample, key=jax.random.key(0))
      >>> params = {"kernel": jnp.ones((3, 2))}
      >>> coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 6, jax.random.key(0))
      >>> batch = {"x": jnp.eye(3), "y": jnp.zeros(3, int)}
      >>> hgeo.sampled_diagonal(loss, params, batch, coordinates)["kernel"].shape
      (6,)

    Reference:
      Kunstner, Balles, Hennig. Limitations of the Empirical Fisher Approximation. 2019.
    """
    check_function("model", model)
    check_function("head", head)
    if (sample is None) != (key is None):
        raise ValueError("sample and key must be given together: give both, or neither")
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, not {num_samples}")
    if example_axes < 1:
        raise ValueError(f"example_axes must be at least 1, not {example_axes}")

    def loss(params, batch):
        outputs = linearised(lambda params: model(params, batch), params)
        fixed = jax.tree.map(jax.lax.stop_gradient, outputs)
        num = _count(fixed, example_axes)

        def squares(batch):
            part = lambda outputs: to_weighted(head(outputs, batch), num)
            of_outputs = lambda outputs: jnp.asarray(part(outputs).total)
            grads = jax.grad(of_outputs, allow_int=True)(fixed)
            slopes = sum(
                jnp.sum(
                    jnp.real(jax.lax.stop_gradient(g) * (z - start)), range(example_axes, z.ndim)
                )
                for g, z, start in zip(*map(jax.tree.leaves, (grads, outputs, fixed)), strict=True)
                if g.dtype != jax.dtypes.float0  # an integer is a constant
            )
            return 0.5 * jnp.sum(slopes**2), part(fixed).weight

        if sample is None or key is None:
            return Weighted(*squares(batch))
        draw = lambda sample: lambda key: squares(sample(key, fixed, batch))
        totals, weights = jax.lax.map(draw(sample), jax.random.split(key, num_samples))
        return Weighted(jnp.mean(totals), jnp.mean(weights))

    return loss


def _count(outputs: PyTree, example_axes: int) -> float:
    shapes = [leaf.shape for leaf in jax.tree.leaves(outputs)]
    if any(len(shape) < example_axes for shape in shapes):
        raise ValueError(
            f"example_axes must be at most the outputs' number of axes, not {example_axes}; the "
            f"outputs have shapes {shapes}"
        )
    return float(math.prod(shapes[0][:example_axes]))
