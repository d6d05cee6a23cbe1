"""Stochastic estimates of the Hessian diagonal of all layers, with standard errors."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.arguments import check_key, check_whole
from hgeo.batching import averaged
from hgeo.losses import Loss, call_loss
from hgeo.params.checks import check_layers
from hgeo.params.layers import Layer
from hgeo.params.static_leaves import held
from hgeo.probes.hvp import hessian_product, together
from hgeo.probes.per_unit.hutchinson import hutchinson_diagonal
from hgeo.second_order.explicit_axes import in_automatic_axes

PyTree = Any

METHODS = ("hutchinson", "xdiag")


class Estimate(NamedTuple):
    """An estimate and its standard error.

    Attributes:
      mean: an array of shape `(n,)`.
      standard_error: of the mean, an array of shape `(n,)`.

    Example:
      >>> hgeo.Estimate(jnp.ones(2), jnp.zeros(2)).mean.shape
      (2,)
    """

    mean: jax.Array
    standard_error: jax.Array


@in_automatic_axes
def stochastic_diagonal(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layers: Mapping[str, Layer],
    key: jax.Array,
    num_samples: int,
    *,
    method: str = "hutchinson",
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
) -> "OrderedDict[str, Estimate]":
    """Estimates each layer's whole Hessian diagonal without bias, and its standard error.

    "hutchinson" is the mean of v ∘ Hv over random sign vectors v. A sample takes one Hessian-vector
    product for all layers together. Where a matrix W enters the loss in one product z = x·W, and
    examples are proved independent, signs are drawn for each example, position and unit of z,

        H[W_iu] ≈ Σ_e (Σ_s x[e,s,i] v[e,s,u]) (Σ_s x[e,s,i] (∂²L/∂z² v)[e,s,u]),

    so that the batch averages the noise. "xdiag" (from matfree) is a low-rank approximation from
    the samples, with Hutchinson's estimate for the remainder, leaving out each sample in turn. A
    sample takes two products.

    Under `jit`, params and batch may lie in shards by any `NamedSharding`.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree.
      batch: any pytree; with `microbatch_size`, arrays whose leading axis counts the examples.
      layers: what `find_layers` gives, or any part of it; layers may not share weights.
      key: random key of the signs.
      num_samples: at least 2, for the standard error.
      method: `"hutchinson"` or `"xdiag"`.
      microbatch_size: examples that are computed together; `None`: the whole batch.
      precision: as in `sampled_diagonal`.
      axis_name: the same.

    Returns:
      An `OrderedDict` of `Estimate` by layer name, arrays of shape `(layer.size,)` in the order of
      `layer.ravel(params)`, in the layer's dtype. The standard error is the samples' standard
      deviation over √num_samples. R_med of a noisy diagonal is biased: its largest entry is partly
      noise.

    Raises:
      ValueError: `num_samples` below 2, an unknown method, layers that share weights, `"xdiag"` for
        a loss with an operation that can't be vmapped, and as `row_dominance`.

    Example:
      >>> loss = lambda params, batch: 0.5 * jnp.sum(batch * params["kernel"] ** 2)
      >>> params, batch = {"kernel": jnp.ones((1, 3))}, jnp.array([[1.0, 2.0, 3.0]])
      >>> layers = hgeo.find_layers(params)
      >>> key = jax.random.key(0)
      >>> print(hgeo.stochastic_diagonal(loss, params, batch, layers, key, 4)["kernel"].mean)
      [1. 2. 3.]

    Reference:
      Bekas, Kokiopoulou, Saad. An estimator for the diagonal of a matrix. 2007.
      Epperly, Tropp, Webber. XTrace: Making the most of every sample in stochastic trace
      estimation. 2024.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, not {method!r}")
    check_whole("num_samples", num_samples)
    check_key(key)
    check_layers(layers)
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2 for a standard error, not {num_samples}")
    joint = together(layers)
    loss, params, batch = held(loss, params, batch)
    options = {
        "microbatch_size": microbatch_size,
        "precision": precision,
        "axis_name": axis_name,
    }
    if method == "xdiag":
        samples = _xdiag(loss, params, batch, joint, key, num_samples, options)
    else:
        # Numbers the examples, so that the signs differ between pieces of the batch.
        numbered = {"batch": batch, "number": _numbers(batch, microbatch_size)}
        numbered_loss = lambda params, numbered: call_loss(loss, params, numbered["batch"])

        def samples_of_piece(total, params, piece):
            piece_key = jax.random.fold_in(key, piece["number"].ravel()[0])
            if axis_name is not None:
                piece_key = jax.random.fold_in(piece_key, jax.lax.axis_index(axis_name))
            return hutchinson_diagonal(total, params, layers, key, piece_key, num_samples)

        by_layer = averaged(samples_of_piece, numbered_loss, params, numbered, **options)
        samples = jnp.concatenate([part.astype(joint.dtype) for part in by_layer], axis=1)

    mean = jnp.mean(samples, axis=0)
    error = jnp.std(samples, axis=0, ddof=1) / num_samples**0.5
    results, start = OrderedDict(), 0
    for name, layer in layers.items():
        stop = start + layer.size
        results[name] = Estimate(
            mean[start:stop].astype(layer.dtype), error[start:stop].astype(layer.dtype)
        )
        start = stop
    return results


def _xdiag(loss, params, batch, layer, key, num_samples, options):
    from matfree import stochtrace

    if num_samples > layer.size:
        raise ValueError(
            f"method='xdiag' takes a num_samples of at most {layer.size}, the number of weights, "
            f"not {num_samples}"
        )
    product = hessian_product(loss, params, batch, layer, **options)
    if not product.choice.vmapped:
        raise ValueError(
            f"method='xdiag' vmaps its products, but {product.choice.reason}; "
            "take method='hutchinson', which needs no vmap"
        )
    dtype = layer.dtype if jnp.finfo(layer.dtype).bits >= 32 else jnp.float32
    matvec = lambda vector: product.times(vector).astype(dtype)
    signs = stochtrace.sampler_signs(jnp.zeros(layer.size, dtype), num=num_samples)(key)
    # matfree relies on promotion, which the user may have restricted.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return stochtrace.leave_one_out_xdiag()(matvec, signs)


def _numbers(batch: PyTree, microbatch_size: int | None) -> jax.Array:
    if microbatch_size is None:
        return jnp.zeros((), jnp.int32)
    lengths = [jnp.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf) > 0]
    return jnp.arange(lengths[0] if lengths else 0, dtype=jnp.int32)
