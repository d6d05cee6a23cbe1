"""The condition number of a layer's Hessian, from the dense float64 matrix."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.losses import Loss, as_weighted
from hgeo.params.layers import Layer
from hgeo.params.static_leaves import held
from hgeo.probes.hvp import hessian_product, together
from hgeo.second_order.chunking import mapped

PyTree = Any


class Conditioning(NamedTuple):
    """All eigenvalues of a symmetric matrix of n rows, and numbers derived from them.

    Attributes:
      eigenvalues: float64 of shape `(n,)`, ascending.
      smoothness: the largest of their magnitudes.
      rank: the numerical rank: how many magnitudes are above n · 2⁻⁵² times the largest.
      condition_number: the largest magnitude over the smallest; if the rank is below n, the
        smallest is rounding error, and so this number is meaningless.
      range_condition_number: the largest magnitude over the smallest of the `rank` largest.
      asymmetry: the largest |H_ij − H_ji| over the largest |H_ij|, before H is symmetrised: the
        rounding error of the entries.

    Example:
      >>> hgeo.Conditioning(np.array([-1.0, 4.0]), 4.0, 2, 4.0, 4.0, 0.0).condition_number
      4.0
    """

    eigenvalues: np.ndarray
    smoothness: float
    rank: int
    condition_number: float
    range_condition_number: float
    asymmetry: float


def condition_number(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layer: Layer | Mapping[str, Layer],
    *,
    max_size: int = 10_000,
    chunk_size: int = 16,
    microbatch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Conditioning:
    """Computes the ratio of the largest to the smallest |eigenvalue| of a layer's Hessian.

        κ = max_k |λ_k| / min_k |λ_k|

    It computes all n rows by Hessian-vector products, and then all eigenvalues, in float64: n
    products, n² numbers of memory and O(n³) operations. It compiles its programs itself: call it
    outside `jit`.

    Args:
      loss: `loss(params, batch)` -> scalar; called with the floating arrays of params and batch
        cast to float64.
      params: any pytree.
      batch: any pytree.
      layer: a layer of `find_layers`, or a mapping of several, treated as one layer.
      max_size: the largest n allowed.
      chunk_size: rows that are computed together.
      microbatch_size: examples that are computed together; `None`: the whole batch.
      progress: called as `progress(rows done, n)`.

    Returns:
      A `Conditioning`, in units of the loss over the weight's square.

    Raises:
      ValueError: a layer of more than `max_size` weights, a loss that returns less than float64, a
        Hessian with entries that are not finite.

    Example:
      >>> loss = lambda params, batch: 0.5 * jnp.sum(batch * params["kernel"] ** 2)
      >>> params, batch = {"kernel": jnp.ones((1, 3))}, jnp.array([[1.0, -2.0, 5.0]])
      >>> layer = hgeo.find_layers(params)["kernel"]
      >>> hgeo.condition_number(loss, params, batch, layer).condition_number
      5.0

    Reference:
      Jiang, Malik, Li (2022), section 3.1.
    """
    layer = together(layer)
    n = layer.size
    if n > max_size:
        raise ValueError(
            f"layer {layer.name!r} has {n} weights, more than max_size={max_size}: its dense "
            f"Hessian takes {8 * n * n / 1e9:.1f} GB. Raise max_size, or take hgeo.spectrum, which "
            "gives the extreme eigenvalues of a layer of any size"
        )
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    loss, params, batch = held(loss, params, batch)
    with jax.enable_x64(True):
        params, batch = jax.tree.map(_wide, (params, batch))
        layer = Layer(layer.name, layer.parts, layer.shapes, ("float64",) * len(layer.parts))
        jax.eval_shape(layer.leaves, params)  # raises if the params do not fit
        value = jax.eval_shape(functools.partial(as_weighted, loss), params, batch)
        narrow = [str(x.dtype) for x in jax.tree.leaves(value) if x.dtype == jnp.float32]
        if narrow:
            raise ValueError(
                f"the loss returns {narrow[0]} for float64 params and batch; "
                "it must return float64, so remove its casts"
            )
        matrix = _dense_hessian(loss, params, batch, layer, chunk_size, microbatch_size, progress)
    if not np.isfinite(matrix).all():
        bad = int((~np.isfinite(matrix)).sum())
        raise ValueError(f"{bad} of {n * n} entries of the Hessian are not finite")
    return _conditioning(matrix)


def _dense_hessian(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    layer: Layer,
    chunk_size: int,
    microbatch_size: int | None,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """All rows of a layer's Hessian, `chunk_size` of them together."""
    n = layer.size

    @jax.jit
    def rows(params, batch, places):
        product = hessian_product(
            loss,
            params,
            batch,
            layer,
            microbatch_size=microbatch_size,
            precision="highest",
            axis_name=None,
        )
        unit = lambda place: jnp.zeros(n, jnp.float64).at[place].set(1.0)
        row = lambda place: product.times(unit(place))
        return mapped(row, places, chunk_size if product.choice.vmapped else 1)

    matrix = np.empty((n, n))
    for start in range(0, n, chunk_size):
        stop = min(start + chunk_size, n)
        # All chunks have one shape: the last chunk recomputes some rows.
        places = np.arange(stop - chunk_size, stop).clip(0)
        matrix[places] = rows(params, batch, places)
        if progress is not None:
            progress(stop, n)
    return matrix


def _conditioning(matrix: np.ndarray) -> Conditioning:
    """The eigenvalues and derived numbers of a matrix that is symmetric up to rounding."""
    n = len(matrix)
    scale = np.abs(matrix).max()
    asymmetry = float(np.abs(matrix - matrix.T).max() / scale) if scale else 0.0
    eigenvalues = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    sizes = np.sort(np.abs(eigenvalues))[::-1]
    rank = int((sizes > n * np.finfo(np.float64).eps * sizes[0]).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        return Conditioning(
            eigenvalues=eigenvalues,
            smoothness=float(sizes[0]),
            rank=rank,
            condition_number=float(sizes[0] / sizes[-1]),
            range_condition_number=float(sizes[0] / sizes[rank - 1]) if rank else float("nan"),
            asymmetry=asymmetry,
        )


def _wide(leaf: Any) -> Any:
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating):
        return jnp.asarray(leaf, jnp.float64)
    return leaf
