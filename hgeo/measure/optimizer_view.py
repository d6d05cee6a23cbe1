"""An optimizer's adaptive gradient, preconditioner and preconditioned spectrum at an iterate."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hgeo.batching import averaged
from hgeo.curvature.preconditioning import diagonal_and_reasons, preconditioned
from hgeo.curvature.update_response import differences
from hgeo.errors import NoSecondMomentError
from hgeo.measure.context import AtCoordinates, Context, entries_at
from hgeo.measure.spectra import layer_spectrum
from hgeo.params.leaf_paths import leaves_by_path, path_of
from hgeo.params.static_leaves import without
from hgeo.probes.spectrum import Spectrum

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class OptimizerView:
    """The optimizer of a run, as the statistics need it.

    Attributes:
      optimizer: the run's optimizer with a constant learning rate, since a schedule may reach zero.
      learning_rate: the constant rate.
      constants: arguments of `preconditioner` besides the state; `None` for an optimizer without a
        preconditioner (SGD), for which P = 1.
      collection: the entry of the variables that it updates; `None`: the variables are the params.
      is_checked: whether to compare P with the optimizer's updates, at the cost of three updates.
    """

    optimizer: optax.GradientTransformation
    learning_rate: float
    constants: Mapping[str, Any] | None
    collection: str | None = "params"
    is_checked: bool = True

    def params(self, variables: PyTree) -> PyTree:
        """The part of the variables that it updates."""
        return variables if self.collection is None else variables[self.collection]

    def variables(self, variables: PyTree, params: PyTree) -> PyTree:
        """The variables with other params."""
        return params if self.collection is None else {**variables, self.collection: params}


class OptimizerDirections(NamedTuple):
    """Pytrees of the params' structure: g, u in the update −learning_rate · u, and P.

    `preconditioner` is NaN where P is unknown: in all leaves for Lion, in matrices for Muon, and in
    leaves that are not trained.
    """

    gradient: PyTree
    adaptive_gradient: PyTree
    preconditioner: PyTree


class CompiledView:
    """What statistics use of an optimizer, compiled for the loss and the layers of a context.

    The first call warns of the layers that have no preconditioner, with the reason. Each call warns
    of the others whose P is not defined yet.
    """

    def __init__(self, context: Context, view: OptimizerView):
        """Compiles nothing yet."""
        self._context, self._view = context, view
        self._directions: Any = None
        self._without_p: set[str] = set()
        self._at_coordinates = context.compiled(self._entries)
        self._spectra = {
            name: context.compiled(functools.partial(self._spectrum, name))
            for name in context.layers
        }

    def at_coordinates(
        self, variables: PyTree, state: optax.OptState, batch: PyTree
    ) -> dict[str, AtCoordinates]:
        """The directions of the next update, at each layer's coordinates."""
        self._prepare(variables, state)
        results = self._at_coordinates(variables, state, batch)
        found = {
            name: AtCoordinates(*(np.asarray(entries[name]) for entries in results))
            for name in self._context.coordinates
        }
        _warn_undefined({n: at for n, at in found.items() if n not in self._without_p})
        return found

    def preconditioned_spectra(
        self, variables: PyTree, state: optax.OptState, batch: PyTree
    ) -> dict[str, Spectrum]:
        """The spectrum of P^(-1/2) H P^(-1/2) of each layer, with P of the next update."""
        self._prepare(variables, state)
        return {n: program(variables, state, batch) for n, program in self._spectra.items()}

    def _prepare(self, variables, state):
        if self._directions is None:
            missing = missing_preconditioners(self._view, state, self._view.params(variables))
            self._without_p = _warn(self._context, self._view, missing)
            self._directions = directions_on_device(self._context, self._view, frozenset(missing))

    def _entries(self, variables, state, batch):
        directions = self._directions(variables, state, batch)
        trees = [self._view.variables({}, tree) for tree in directions]
        return [entries_at(tree, self._context.coordinates) for tree in trees]

    def _spectrum(self, name, variables, state, batch):
        diagonal = self._directions(variables, state, batch).preconditioner
        others = dict.fromkeys(variables) if self._view.collection is not None else {}
        loss = preconditioned(self._context.loss, self._view.variables(others, diagonal))
        return layer_spectrum(self._context, loss, name, variables, batch)


def missing_preconditioners(
    view: OptimizerView, state: optax.OptState, params: PyTree
) -> dict[str, str]:
    """By path of the params, the reasons why leaves have no P; leaves with a P are left out.

    Raises:
      ValueError: constants that don't fit the state.
    """
    constants = view.constants
    if constants is None:
        return {}
    reasons: dict[str, str] = {}

    def diagonal(state):
        by_leaf, why = diagonal_and_reasons(state, constants)
        reasons.update(why)
        return by_leaf

    paths = leaves_by_path(params)
    try:
        known = leaves_by_path(jax.eval_shape(diagonal, state))
    except NoSecondMomentError as error:
        return dict.fromkeys(paths, str(error))
    missing = {path: "the optimizer does not train it" for path in paths if path not in known}
    missing |= reasons
    if view.is_checked:
        missing |= differences(
            view.optimizer, params, lambda state: diagonal_and_reasons(state, constants)[0]
        )
    return missing


def directions_on_device(
    context: Context, view: OptimizerView, missing: Collection[str] = ()
) -> Callable[[PyTree, optax.OptState, PyTree], OptimizerDirections]:
    """The function (variables, optimizer's state, batch) -> the directions of the next update.

    Each direction is a pytree of the variables' params. The gradient is that of the whole batch; P
    is computed from the state after the update. The leaves in `missing` have a P of NaN.
    """
    optimizer = optax.with_extra_args_support(view.optimizer)

    def directions(variables, state, batch):
        params = view.params(variables)

        def value_and_grad(total, variables, piece):
            of_params = lambda params: total(view.variables(variables, params))
            return jax.value_and_grad(of_params)(view.params(variables))

        options = context.on_device
        value, grads = averaged(value_and_grad, context.loss, variables, batch, **options)
        mean_loss = lambda params: averaged(
            lambda total, variables, piece: total(variables),
            context.loss,
            view.variables(variables, params),
            batch,
            **options,
        )
        more = {"value": value, "grad": grads, "value_fn": mean_loss, "obj_fn": mean_loss}
        # An optimizer is initialised with the arrays only.
        grads, params = without(grads), without(params)
        updates, state = optimizer.update(grads, state, params, **more)
        adaptive = jax.tree.map(lambda update: update / -view.learning_rate, updates)
        return OptimizerDirections(grads, adaptive, _preconditioner(state, params))

    def _preconditioner(state, params):
        if view.constants is None:
            return jax.tree.map(jnp.ones_like, params)
        leaves, known = leaves_by_path(params), {}
        if len(missing) < len(leaves):
            known = leaves_by_path(diagonal_and_reasons(state, view.constants)[0])
        diagonal = [
            jnp.full_like(leaf, jnp.nan) if path in missing else known[path]
            for path, leaf in leaves.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(params), diagonal)

    return directions


def _warn(context: Context, view: OptimizerView, missing: Mapping[str, str]) -> set[str]:
    """Warns of the layers without P; returns their names."""
    below = "" if view.collection is None else f"{view.collection}/"
    by_reason: dict[str, list[str]] = {}
    for name, layer in context.layers.items():
        paths = [path_of(part).removeprefix(below) for part in layer.parts]
        for reason in dict.fromkeys(missing[path] for path in paths if path in missing):
            by_reason.setdefault(reason, []).append(name)
    if by_reason:
        lines = (f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
        warnings.warn(f"no preconditioner, so P is NaN: {'; '.join(lines)}", stacklevel=2)
    return {name for names in by_reason.values() for name in names}


def _warn_undefined(found: Mapping[str, AtCoordinates]) -> None:
    """Warns of layers whose every P is NaN, though the optimizer has one."""
    names = [
        name
        for name, at in found.items()
        if at.preconditioner is not None
        and np.isnan(at.preconditioner).all()
        and not np.isnan(at.gradient).all()
    ]
    if names:
        warnings.warn(
            f"P is NaN in {', '.join(names)}: the second moment is NaN, or the next step is no "
            "update of it (optax.MultiSteps before its first update)",
            stacklevel=2,
        )
