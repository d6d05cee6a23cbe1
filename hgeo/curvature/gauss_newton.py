"""The generalised Gauss-Newton matrix as the Hessian of a loss, for every probe."""

from collections.abc import Callable
from typing import Any

from hgeo.arguments import check_function
from hgeo.curvature.linearised import linearised
from hgeo.losses import Loss

PyTree = Any
Model = Callable[[PyTree, PyTree], PyTree]
Head = Callable[[PyTree, PyTree], Any]


def gauss_newton(model: Model, head: Head) -> Loss:
    """Builds a loss whose Hessian is the generalised Gauss-Newton matrix of a model and its head.

        G = Jᵀ (∂²L/∂z²) J,   z = model(w),   J = ∂z/∂w,   L = head(z)

    G is the Hessian without the model's curvature. The loss is head(z + J (w − w₀)), with w₀ the
    params of the call. Any probe takes it: `sampled_diagonal`, `full_diagonal`, `row_dominance`,
    `spectrum` and the others.

    Args:
      model: `model(params, batch) -> outputs`, a pytree of arrays of any shapes.
      head: `head(outputs, batch)` -> scalar, the mean loss, or `hgeo.Weighted`.

    Returns:
      `loss(params, batch)`, with the head's value and units.

    Raises:
      ValueError: a call raises it for a model with a `custom_vjp` function whose rule has no
        transpose.

    Example:
      >>> model = lambda params, batch: jnp.tanh(batch["x"] @ params["kernel"])
      >>> head = lambda outputs, batch: 0.5 * jnp.mean((outputs - batch["y"]) ** 2)
      >>> params, batch = {"kernel": jnp.zeros((1, 1))}, {"x": jnp.eye(1), "y": jnp.ones((1, 1))}
      >>> coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), 1, jax.random.key(0))
      >>> loss = hgeo.gauss_newton(model, head)
      >>> hgeo.sampled_diagonal(loss, params, batch, coordinates)["kernel"].shape
      (1,)

    Reference:
      Schraudolph. Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent. 2002.
    """
    check_function("model", model)
    check_function("head", head)

    def loss(params, batch):
        return head(linearised(lambda params: model(params, batch), params), batch)

    return loss
