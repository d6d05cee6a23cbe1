"""The spectrum of the Hessian of one layer, or of several treated as one, by Lanczos iterations."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hgeo.arguments import check_key, check_whole
from hgeo.losses import Loss
from hgeo.params.layers import Layer
from hgeo.params.static_leaves import held
from hgeo.probes.hvp import hessian_product, together
from hgeo.second_order.explicit_axes import in_automatic_axes

PyTree = Any

# A residual of at most this many roundings of the product it is of has no direction of its own.
NOISE = 100


class Spectrum(NamedTuple):
    """Lanczos estimates of the spectrum of a symmetric matrix of n rows.

    Attributes:
      largest: scalar, a lower bound of the largest eigenvalue.
      smallest: scalar, an upper bound of the smallest (most negative) eigenvalue.
      largest_error: scalar; some eigenvalue lies within this distance of `largest`.
      smallest_error: the same for `smallest`.
      trace: scalar, an unbiased estimate.
      trace_error: scalar, the standard error of `trace`.
      nodes: of shape `(num_samples, num_matvecs)`: for each start vector, the support of the
        spectral density.
      weights: of the same shape: the share of the n eigenvalues at each node; sums to 1 over the
        last axis.

    Example:
      >>> numbers = jnp.array([3.0, -4.0, 0.0, 0.0, 0.0, 0.0])
      >>> print(hgeo.Spectrum(*numbers, jnp.ones((1, 1)), jnp.ones((1, 1))).smoothness)
      4.0
    """

    largest: jax.Array
    smallest: jax.Array
    largest_error: jax.Array
    smallest_error: jax.Array
    trace: jax.Array
    trace_error: jax.Array
    nodes: jax.Array
    weights: jax.Array

    @property
    def smoothness(self) -> jax.Array:
        """The largest eigenvalue in magnitude."""
        return jnp.maximum(jnp.abs(self.largest), jnp.abs(self.smallest))


@in_automatic_axes
def spectrum(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layer: Layer | Mapping[str, Layer],
    key: jax.Array,
    *,
    num_matvecs: int = 30,
    num_samples: int = 4,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
) -> Spectrum:
    """Estimates extreme eigenvalues, spectral density and trace of a layer's Hessian.

    It is stochastic Lanczos quadrature. For each random sign vector v, full reorthogonalisation
    gives an orthonormal basis Q of span(v, Hv, ..., H^(m−1) v), and T = QᵀHQ. The eigenvalues θ of
    T and its eigenvectors' squared first components τ are the nodes and weights of a quadrature,

        (1/n) Σ_k f(λ_k) ≈ mean over v of Σ_m τ_m f(θ_m).

    Under `jit`, params and batch may lie in shards by any `NamedSharding`.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree.
      batch: any pytree; with `microbatch_size`, arrays whose leading axis counts the examples.
      layer: a layer of `find_layers`, or a mapping of several, treated as one layer, cross blocks
        included.
      key: random key of the start vectors.
      num_matvecs: m, the number of Hessian-vector products for each start vector; at most n.
      num_samples: the number of start vectors; at least 2, for the trace's standard error.
      microbatch_size: examples that are computed together; `None`: the whole batch.
      precision: as in `sampled_diagonal`.
      axis_name: the same.

    Returns:
      A `Spectrum` in the layer's dtype, in units of the loss over the weight's square. The program
      keeps `num_matvecs` vectors of n entries in memory. Values beyond the dtype's range are inf or
      NaN: compute those in float64 (`jax.enable_x64`).

    Raises:
      ValueError: `num_matvecs` outside 1 to n, `num_samples` below 2, and as `row_dominance`.

    Example:
      >>> loss = lambda params, batch: 0.5 * jnp.sum(batch * params["kernel"] ** 2)
      >>> params, batch = {"kernel": jnp.ones((2, 2))}, jnp.array([[1.0, -2.0], [3.0, 5.0]])
      >>> layer = hgeo.find_layers(params)["kernel"]
      >>> spectrum = hgeo.spectrum(loss, params, batch, layer, jax.random.key(0), num_matvecs=4)
      >>> print(spectrum.largest.round(3), spectrum.smallest.round(3))
      5.0 -2.0

    Reference:
      Ubaru, Chen, Saad. Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature. 2017.
      Ghorbani, Krishnan, Xiao. An Investigation into Neural Net Optimization via Hessian
      Eigenvalue Density. 2019.
    """
    layer = together(layer)
    check_key(key)
    check_whole("num_matvecs", num_matvecs)
    check_whole("num_samples", num_samples)
    if not 1 <= num_matvecs <= layer.size:
        raise ValueError(
            f"num_matvecs must lie in 1 to {layer.size}, the number of weights of {layer.name!r}, "
            f"not {num_matvecs}"
        )
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2 for a standard error, not {num_samples}")
    product = hessian_product(
        *held(loss, params, batch),
        layer,
        microbatch_size=microbatch_size,
        precision=precision,
        axis_name=axis_name,
    )
    dtype = layer.dtype if jnp.finfo(layer.dtype).bits >= 32 else jnp.float32
    matvec = lambda vector: product.times(vector).astype(dtype)
    return _lanczos_quadrature(
        matvec, jnp.zeros(layer.size, dtype), key, num_matvecs=num_matvecs, num_samples=num_samples
    )


def _lanczos_quadrature(
    matvec: Callable[[jax.Array], jax.Array],
    like: jax.Array,
    key: jax.Array,
    *,
    num_matvecs: int,
    num_samples: int,
) -> Spectrum:
    """The spectrum of a symmetric matrix, from its matrix-vector products.

    Args:
      matvec: v -> Hv.
      like: an array of v's shape and dtype.
      key: random key of the start vectors.
      num_matvecs: products for each start vector.
      num_samples: start vectors.
    """
    from matfree import decomp, stochtrace

    # Of a symmetric matrix this is the Lanczos iteration, and the norms below the diagonal tell
    # where it ends.
    iteration = decomp.hessenberg(num_matvecs, custom_vjp=False, reortho="full")

    def quadrature_from(start):
        result = iteration(matvec, start)
        projected = jnp.asarray(result.J_small)
        norms = jnp.append(jnp.diagonal(projected, -1), jnp.linalg.norm(result.residual))
        matrix, residual = _tridiagonal(jnp.diagonal(projected), norms)
        values, vectors = jnp.linalg.eigh(matrix)
        return values, vectors[0] ** 2, residual * jnp.abs(vectors[-1]), matrix[0, 0]

    starts = stochtrace.sampler_signs(like, num=num_samples)(key)
    nodes, weights, errors, traces = jax.lax.map(quadrature_from, starts)
    high, low = jnp.argmax(nodes[:, -1]), jnp.argmin(nodes[:, 0])
    traces = like.size * traces
    return Spectrum(
        largest=nodes[high, -1],
        smallest=nodes[low, 0],
        largest_error=errors[high, -1],
        smallest_error=errors[low, 0],
        trace=jnp.mean(traces),
        trace_error=jnp.std(traces, ddof=1) / num_samples**0.5,
        nodes=nodes,
        weights=weights,
    )


def _tridiagonal(diagonal: jax.Array, norms: jax.Array) -> tuple[jax.Array, jax.Array]:
    """T = QᵀHQ on the Krylov space of the start vector, and the norm of its last residual.

    The space may have fewer dimensions than there were products. The residual is then rounding
    noise, and after its normalisation it is no longer orthogonal to Q. T ends there. The rest of
    the diagonal repeats the first entry, coupled to nothing: nodes without weight, which lie within
    the spectrum.

    Args:
      diagonal: qᵀHq of the m basis vectors.
      norms: of the m residuals.
    """
    before = jnp.append(0.0, norms[:-1]).astype(norms.dtype)
    products = jnp.sqrt(before**2 + diagonal**2 + norms**2)  # ‖Hq‖
    largest = jax.lax.cummax(jnp.nan_to_num(products))
    goes_on = jnp.cumprod(norms > NOISE * jnp.finfo(norms.dtype).eps * largest) == 1
    is_in_basis = jnp.append(True, goes_on[:-1])
    diagonal = jnp.where(is_in_basis, diagonal, diagonal[0])
    norms = jnp.where(goes_on, norms, 0.0)
    beside = jnp.diag(norms[:-1], 1)
    return jnp.diag(diagonal) + beside + beside.T, norms[-1]
