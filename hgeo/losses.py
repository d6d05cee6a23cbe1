"""Losses: scalar or `Weighted`, and their means over pieces of a batch and over devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from hgeo.params.leaf_paths import paths_and_leaves

PyTree = Any
Loss = Callable[[PyTree, PyTree], Any]

_CALLED = "the loss was called with a batch of type"
_NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


class Weighted(NamedTuple):
    """A mean loss as a sum and the weight to divide it by: `total / weight`.

    Pieces of a batch (microbatches, devices, ragged or padded batches) add up exactly: the mean is
    Σ total / Σ weight, which differs from the mean of the pieces' means.

    Attributes:
      total: scalar, the sum of the examples' (or tokens') losses; depends on the params.
      weight: scalar, the number of examples or the sum of their weights; must not depend on the
        params.

    Example:
      >>> import jax.numpy as jnp, hgeo
      >>> def loss(params, batch):
      ...     error = batch["x"] @ params - batch["y"]
      ...     mask = batch["mask"]
      ...     return hgeo.Weighted(total=jnp.sum(mask * error**2), weight=jnp.sum(mask))
    """

    total: ArrayLike
    weight: ArrayLike


def as_weighted(loss: Loss, params: PyTree, batch: PyTree, weight: float = 1.0) -> Weighted:
    """Evaluates `loss` and returns its value as a `Weighted`.

    Args:
      loss: `loss(params, batch)`, a scalar (the batch's mean) or a `Weighted`.
      params: its first argument.
      batch: its second argument.
      weight: the weight of a scalar loss (a mean); ignored if the loss returns a `Weighted`.

    Raises:
      ValueError: the loss is neither a real scalar nor a `Weighted` of two scalars; the batch has
        no examples.
      TypeError: the loss is no function, or can't be traced.
    """
    return to_weighted(call_loss(loss, params, batch), weight)


def call_loss(loss: Loss, params: PyTree, batch: PyTree) -> Any:
    """Calls the loss; an error in the loss gets a note with the batch's type and shapes.

    Raises:
      ValueError: the batch has no examples.
      TypeError: the loss is no function, or can't be traced.
    """
    if not callable(loss):
        raise TypeError(f"the loss must be a function loss(params, batch), not {loss!r}")
    shapes = {path: jnp.shape(leaf) for path, leaf in paths_and_leaves(batch) if _is_array(leaf)}
    axes = [shape for shape in shapes.values() if shape]
    if axes and all(shape[0] == 0 for shape in axes):
        raise ValueError(f"the batch must have examples, but its arrays have shapes {axes[:4]}")
    try:
        return loss(params, batch)
    except _NOT_TRACEABLE as error:
        first = str(error).splitlines()[0]
        raise TypeError(
            "the loss must use operations of JAX only, but it converts a traced array to a Python "
            f"number or a NumPy array (float(), if, np.…): {first}"
        ) from error
    except Exception as error:
        shapes_text = ", ".join(
            f"{path or 'it'}: {shape}" for path, shape in list(shapes.items())[:4]
        )
        if not any(note.startswith(_CALLED) for note in getattr(error, "__notes__", ())):
            error.add_note(f"{_CALLED} {type(batch).__name__} ({shapes_text})")
        raise


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def to_weighted(value: Any, weight: float = 1.0) -> Weighted:
    """A loss's value as a `Weighted`; arguments and errors as in `as_weighted`."""
    if isinstance(value, Weighted):
        if value.total is None or value.weight is None:
            raise ValueError(f"hgeo.Weighted must hold a total and a weight, not {value}")
        total, divisor = jnp.asarray(value.total), jnp.asarray(value.weight)
    else:
        if not hasattr(value, "dtype"):
            what = f"the number {value!r}" if isinstance(value, (int, float)) else type(value)
            raise ValueError(
                f"the loss must return a scalar or hgeo.Weighted(total, weight), JAX arrays that "
                f"depend on the params, not {what}"
            )
        mean = jnp.asarray(value)
        divisor = jnp.asarray(weight, dtype=mean.dtype)
        total = mean * divisor
    for name, part in (("value", total), ("weight", divisor)):
        if part.shape != ():
            raise ValueError(f"the loss must be a scalar; its {name} has shape {part.shape}")
    if not jnp.issubdtype(total.dtype, jnp.floating):
        raise ValueError(f"the loss must be a real floating scalar; its dtype is {total.dtype}")
    return Weighted(total, jax.lax.stop_gradient(divisor).astype(total.dtype))


def varying_axes(aval: Any) -> frozenset[str]:
    """The named axes of a `shard_map` over which a variable differs between devices."""
    # The attribute's name depends on the release of JAX.
    axes = getattr(aval, "vma", None)
    return getattr(getattr(aval, "mat", None), "varying", frozenset()) if axes is None else axes


def over_devices(params: PyTree, axis_name: str | None) -> PyTree:
    """Marks replicated params as varying over the devices of a named axis.

    JAX sums the gradient of a device's loss in *replicated* params over the devices. hgeo sums the
    results as well, which would count each device's gradient several times.
    """
    if axis_name is None:
        return params

    def varying(leaf):
        if not isinstance(leaf, jax.Array):
            return leaf
        if axis_name in varying_axes(jax.typeof(leaf)):
            return leaf
        return jax.lax.pcast(leaf, axis_name, to="varying")

    return jax.tree.map(varying, params)


def mean_over_devices(part: Weighted, axis_name: str | None) -> jax.Array:
    """Σ_d total_d / Σ_d weight_d over the devices along a named axis; `None`: a single device."""
    sums: Any = part if axis_name is None else jax.lax.psum(part, axis_name)
    return sums.total / sums.weight


def value_and_grad(
    loss: Callable[[PyTree, PyTree], tuple[Any, PyTree]],
    params: PyTree,
    batch: PyTree,
    axis_name: str | None = None,
) -> tuple[jax.Array, PyTree, PyTree]:
    """The mean loss of a batch over all devices of a named axis, its gradient, and the loss's aux.

    value = Σ_d total_d / Σ_d weight_d, with d the devices along `axis_name`. The gradient is that
    of the value in `params`. Both are replicated.

    Args:
      loss: `loss(params, batch) -> (value, aux)`, the value a scalar or a `Weighted`.
      params: its first argument.
      batch: its second argument.
      axis_name: the devices' axis, or `None`.
    """

    def total(params):
        value, aux = loss(params, batch)
        part = to_weighted(value)
        return part.total, (part.weight, aux)

    (value, (weight, aux)), grads = jax.value_and_grad(total, has_aux=True)(
        over_devices(params, axis_name)
    )
    if axis_name is not None:
        value, weight, grads = jax.lax.psum((value, weight, grads), axis_name)
    return value / weight, jax.tree.map(lambda g: g / weight.astype(g.dtype), grads), aux
