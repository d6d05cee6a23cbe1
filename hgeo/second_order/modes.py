"""Chooses the fastest mode that can differentiate a loss twice."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from hgeo.errors import NoPreconditionerError
from hgeo.second_order.adjoint_weighted import adjoint_weighted
from hgeo.second_order.nested import forward_over_forward, over_reverse
from hgeo.second_order.obstacles import find_obstacles, not_to_be_run
from hgeo.second_order.products import FORWARD, REVERSE
from hgeo.second_order.quadratic_form import ProbePoints

PyTree = Any
Total = Callable[[PyTree], jax.Array]

MODES = {
    "adjoint_weighted": adjoint_weighted,
    FORWARD: functools.partial(over_reverse, way=FORWARD),
    "forward_over_forward": forward_over_forward,
    REVERSE: functools.partial(over_reverse, way=REVERSE),
}

_PRICE = {
    REVERSE: "one gradient of <gradient, e_i> a coordinate takes about what jvp over grad takes",
}


class ModeChoice(NamedTuple):
    """The mode that a probe takes and why.

    Attributes:
      mode: a scalar str, one of "adjoint_weighted", "forward_over_reverse", "forward_over_forward"
        and "reverse_over_reverse".
      reason: why, in words.
      vmapped: whether the coordinates of a chunk are computed together. If not, an operation of the
        loss can't be vmapped, and each coordinate takes a separate pass.

    Example:
      >>> hgeo.ModeChoice("forward_over_reverse", "it was asked for").mode
      'forward_over_reverse'
    """

    mode: str
    reason: str
    vmapped: bool = True


def check_mode(mode: str) -> None:
    """Raises a ValueError unless `mode` is "auto" or names a mode."""
    if mode != "auto" and mode not in MODES:
        raise ValueError(f"mode must be 'auto' or one of {sorted(MODES)}, not {mode!r}")


def choose(mode: str, total: Total, params: PyTree, probe_points: ProbePoints) -> ModeChoice:
    """Chooses the mode for one loss; `mode` may be "auto".

    "auto" is adjoint-weighted mode, unless between the layers and the loss there is

    - a `custom_vjp` function, which has a reverse rule only, or a `custom_jvp` function whose rule
      need not be its derivative (a straight-through estimator): jvp over grad, which applies the
      rule in one derivative and differentiates the function's code in the other;
    - a `while` loop of unknown length, which has no reverse rule: jvp over jvp;
    - a `custom_vjp` function that its own forward rule calls: grad over grad.

    The chosen mode is traced, and each of its operations has a lowering for this machine.

    Raises:
      ValueError: a function or kernel on the way has no second derivative.
    """
    check_mode(mode)
    tried = tuple(MODES) if mode == "auto" else (mode,)
    return _choose(tried, total, params, probe_points, mode != "auto")


def choose_product(total: Total, params: PyTree, probe_points: ProbePoints) -> ModeChoice:
    """Chooses between the two modes of Hessian-vector products, jvp and grad over grad.

    Raises:
      ValueError: a function or kernel on the way has no derivative of its gradient.
    """
    return _choose((FORWARD, REVERSE), total, params, probe_points, False)


def _choose(
    tried: Sequence[str], total: Total, params: PyTree, probe_points: ProbePoints, asked: bool
) -> ModeChoice:
    obstacles, alone, tried_alone = find_obstacles(total, params, probe_points)
    covered = tried[0] in ("adjoint_weighted", FORWARD) or not tried_alone
    if not obstacles and covered:
        reason = "it was asked for" if asked else "every equation on the way is covered"
        return _choice(tried[0], reason, alone)

    failure: Exception | None = None
    for mode in tried:
        if mode == "adjoint_weighted":
            continue
        for vmapped in (True, False):
            try:
                _stage(mode, total, params, probe_points, vmapped)
            except NoPreconditionerError:  # it names the leaf; no other mode avoids it
                raise
            except Exception as error:  # custom rules may raise any error
                failure = error
                continue
            reason = "it was asked for" if asked else f"on the way there is {', '.join(obstacles)}"
            if not asked and mode in _PRICE:
                reason += f"; {_PRICE[mode]}"
            return _choice(mode, reason, () if vmapped else alone or obstacles or tried_alone)
    who = f"mode={tried[0]!r} cannot" if asked else "no mode can"
    raise ValueError(
        f"{who} differentiate the loss twice: on the way from the layers to it there is "
        + ", ".join(obstacles or tried_alone)
    ) from failure


def _choice(mode: str, reason: str, alone: Sequence[str]) -> ModeChoice:
    if not alone:
        return ModeChoice(mode, reason)
    return ModeChoice(
        mode,
        f"{reason}; what can't be vmapped there is {', '.join(alone)}, so each coordinate takes a "
        "separate pass, and chunks share no work",
        vmapped=False,
    )


def _stage(mode, total, params, probe_points, vmapped):
    """Traces one point of each layer, alone or vmapped; raises if it can't be run."""

    def at_one_point(params):
        forms = MODES[mode](total, params, probe_points)
        points = {name: probe_points[name].points for name in forms}
        if vmapped:
            return [jax.vmap(form)(points[name][:1]) for name, form in forms.items()]
        return [form(points[name][0]) for name, form in forms.items()]

    problem = not_to_be_run(jax.make_jaxpr(at_one_point)(params).jaxpr)
    if problem is not None:
        raise TypeError(problem)
