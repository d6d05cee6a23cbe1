"""Losses: what a probe or a training step differentiates, and how parts of a batch add up."""

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
    """A loss as a sum and the weight that the sum is to be divided by.

    The loss that is meant is `total / weight`. Parts of a batch (microbatches, devices, ragged or
    padded batches) add up exactly: mean = Σ total / Σ weight, where a mean of means would not.

    Attributes:
      total: scalar, the sum of the examples' (or tokens') losses; depends on the parameters.
      weight: scalar, their number or the sum of their weights; must not depend on the parameters.

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
    """Evaluates `loss` and gives its value as a `Weighted` one.

    Args:
      loss: `loss(params, batch)`, a scalar (the batch's mean) or a `Weighted`.
      params: its first argument.
      batch: its second argument.
      weight: what a scalar (a mean) counts for beside other parts of the batch; not used where the
        loss gives its own weight.

    Raises:
      ValueError: the loss is neither a real scalar nor a `Weighted` of two scalars; the batch has
        no examples.
      TypeError: the loss is no function, or can't be traced.
    """
    return to_weighted(call_loss(loss, params, batch), weight)


def call_loss(loss: Loss, params: PyTree, batch: PyTree) -> Any:
    """What the loss returns; an error of its own says which batch it was called with.

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
            "the loss must be made of operations of JAX, but it takes a traced array for a number "
            f"of Python or an array of NumPy (float(), if, np.…): {first}"
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
    """What a loss returned as a `Weighted`; arguments and errors as in `as_weighted`."""
    if isinstance(value, Weighted):
        if value.total is None or value.weight is None:
            raise ValueError(f"hgeo.Weighted must hold a total and a weight, not {value}")
        total, mass = jnp.asarray(value.total), jnp.asarray(value.weight)
    else:
        if not hasattr(value, "dtype"):
            what = f"the number {value!r}" if isinstance(value, (int, float)) else type(value)
            raise ValueError(
                f"a loss must return a scalar or hgeo.Weighted(total, weight), arrays of JAX that "
                f"depend on the params, not {what}"
            )
        mean = jnp.asarray(value)
        mass = jnp.asarray(weight, dtype=mean.dtype)
        total = mean * mass
    for name, part in (("value", total), ("weight", mass)):
        if part.shape != ():
            raise ValueError(f"the loss must be a scalar; its {name} has shape {part.shape}")
    if not jnp.issubdtype(total.dtype, jnp.floating):
        raise ValueError(f"the loss must be a real floating scalar; its dtype is {total.dtype}")
    return Weighted(total, jax.lax.stop_gradient(mass).astype(total.dtype))


def varying_axes(aval: Any) -> frozenset[str]:
    """The named axes of a `shard_map` over which a variable differs between devices."""
    # Releases of JAX keep it under different names.
    axes = getattr(aval, "vma", None)
    return getattr(getattr(aval, "mat", None), "varying", frozenset()) if axes is None else axes


def over_devices(params: PyTree, axis_name: str | None) -> PyTree:
    """Marks replicated params as each device's own, where a named axis is in use.

    The gradient of a device's own loss with respect to *replicated* values would be summed over
    the devices by the transpose rule alone, and then once more by whoever sums the results.
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
    """Σ_d total_d / Σ_d weight_d over the devices along a named axis; `None`, there are none."""
    sums: Any = part if axis_name is None else jax.lax.psum(part, axis_name)
    return sums.total / sums.weight


def value_and_grad(
    loss: Callable[[PyTree, PyTree], tuple[Any, PyTree]],
    params: PyTree,
    batch: PyTree,
    axis_name: str | None = None,
) -> tuple[jax.Array, PyTree, PyTree]:
    """The mean loss of a batch over all devices of a named axis, its gradient, and the loss's aux.

    value = Σ_d total_d / Σ_d weight_d, with d the devices along `axis_name`; the gradient is that
    value's with respect to `params`. Both come back replicated.

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
