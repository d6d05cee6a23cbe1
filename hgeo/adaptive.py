"""What an optimizer makes of a gradient: its adaptive gradient and its preconditioner."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hgeo.context import AtCoordinates, Context
from hgeo.curvature.preconditioning import preconditioner
from hgeo.probes.averaging import averaged
from hgeo.static_leaves import without

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Adaptivity:
    """The optimizer of a run, as far as statistics look at it.

    Attributes:
      optimizer: as it trains, but with a constant learning rate: a schedule may end at zero.
      learning_rate: that rate.
      constants: what `preconditioner` takes besides the state; `None` for an optimizer that does
        not precondition (SGD), whose preconditioner is 1.
      collection: the entry of the variables that it updates; `None`, they are the params
        themselves.
    """

    optimizer: optax.GradientTransformation
    learning_rate: float
    constants: Mapping[str, float] | None
    collection: str | None = "params"

    def params(self, variables: PyTree) -> PyTree:
        """What it updates of the variables."""
        return variables if self.collection is None else variables[self.collection]

    def variables(self, variables: PyTree, params: PyTree) -> PyTree:
        """The variables with other params."""
        return params if self.collection is None else {**variables, self.collection: params}


class Directions(NamedTuple):
    """Pytrees of the params' structure: g, u in the update −learning_rate · u, and P.

    `preconditioner` is NaN where the optimizer adapts without a second moment: everywhere in Lion,
    in the matrices in Muon.
    """

    gradient: PyTree
    adaptive_gradient: PyTree
    preconditioner: PyTree


def directions_at_coordinates(
    context: Context, adaptivity: Adaptivity
) -> Callable[[PyTree, optax.OptState, PyTree], dict[str, AtCoordinates]]:
    """(variables, optimizer's state, batch) -> the same at each layer's coordinates, compiled."""
    program = context.compiled(directions_on_device(context, adaptivity))

    def directions(variables, state, batch):
        trees = [adaptivity.variables({}, tree) for tree in program(variables, state, batch)]
        return {
            name: AtCoordinates(*(np.asarray(own.layer.ravel(tree)[own.indices]) for tree in trees))
            for name, own in context.coordinates.items()
        }

    return directions


def directions_on_device(
    context: Context, adaptivity: Adaptivity
) -> Callable[[PyTree, optax.OptState, PyTree], Directions]:
    """(variables, optimizer's state, batch) -> the `Directions` of the update that would follow.

    Each is a pytree of the variables' params. The gradient is that of the whole batch; the moments
    are those after the update has taken it in.
    """
    optimizer = optax.with_extra_args_support(adaptivity.optimizer)

    def directions(variables, state, batch):
        params = adaptivity.params(variables)

        def value_and_grad(total, variables, piece):
            of_params = lambda params: total(adaptivity.variables(variables, params))
            return jax.value_and_grad(of_params)(adaptivity.params(variables))

        options = context.on_device
        value, grads = averaged(value_and_grad, context.loss, variables, batch, **options)
        mean_loss = lambda params: averaged(
            lambda total, variables, piece: total(variables),
            context.loss,
            adaptivity.variables(variables, params),
            batch,
            **options,
        )
        more = {"value": value, "grad": grads, "value_fn": mean_loss, "obj_fn": mean_loss}
        # An optimizer knows the arrays alone, as it was initialised with them.
        grads, params = without(grads), without(params)
        updates, state = optimizer.update(grads, state, params, **more)
        adaptive = jax.tree.map(lambda update: update / -adaptivity.learning_rate, updates)
        return Directions(grads, adaptive, _preconditioner(state, params))

    def _preconditioner(state, params):
        if adaptivity.constants is None:
            return jax.tree.map(jnp.ones_like, params)
        try:
            found = preconditioner(state, **adaptivity.constants)
        except ValueError:  # it has no second moment
            found = jax.tree.map(lambda _: optax.MaskedNode(), params)
        unknown = lambda leaf, own: (
            jnp.full_like(leaf, jnp.nan) if isinstance(own, optax.MaskedNode) else own
        )
        return jax.tree.map(unknown, params, found)

    return directions
