"""Exact entries of the Hessian diagonal at sampled coordinates of each layer."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax

from hgeo.batching import first_piece
from hgeo.losses import Loss
from hgeo.params.coordinates import Coordinates
from hgeo.params.static_leaves import held
from hgeo.second_order.evaluate import check_options, evaluate_quadratic_forms
from hgeo.second_order.explicit_axes import in_automatic_axes
from hgeo.second_order.modes import ModeChoice, choose

PyTree = Any


def sampled_diagonal(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    coordinates: Mapping[str, Coordinates],
    *,
    mode: str = "auto",
    chunk_size: int | str = "auto",
    memory_budget: int | None = None,
    microbatch_size: int | None = None,
    precision: str | None = "highest",
    axis_name: str | None = None,
    coordinate_axis: str | None = None,
) -> "OrderedDict[str, jax.Array]":
    """Exact entries of each layer's Hessian diagonal, at the given coordinates.

        H_ii = ∂²L/∂w_i²,   L = Σ total / Σ weight over the batch,

    where w is the layer's flat vector and every other weight stays as it is. It does not jit;
    callers do (or take `make_probe`). It runs inside `jit`, under `vmap` over stacked params, and
    in `shard_map` or `pmap` with a named axis. Under `jit`, params and batch may lie in shards by
    any `NamedSharding`, on automatic or explicit mesh axes; the loss is then the global one, and
    only what a forward pass gathers is gathered.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree; leaves that are no arrays (functions, strings, enums) are static.
      batch: the same; with `microbatch_size`, arrays whose leading axis counts the examples.
      coordinates: what `sample_coordinates` gives, or any part of it.
      mode: `"adjoint_weighted"` (one tangent sweep a coordinate: the fastest),
        `"forward_over_reverse"` (`jax.jvp` over `jax.grad`), `"forward_over_forward"` (`jax.jvp`
        over `jax.jvp`: the least memory) or `"reverse_over_reverse"` (`jax.grad` over `jax.grad`:
        operations, memory and time of jvp over grad, and no forward derivative). They agree to
        rounding. `"auto"` takes the first that can be run, in this order; `choose_mode` tells.
      chunk_size: coordinates that are computed together, by `vmap`; it changes speed and memory,
        not values. With 1 nothing is vmapped, and so it is wherever the loss has an operation that
        can't be. `"auto"`: as many as gain speed and fit into `memory_budget`.
      memory_budget: bytes that the temporaries of one chunk may take, by an estimate that errs
        on the high side; goes with `chunk_size="auto"`. What all coordinates share (values and
        gradients) comes on top, and does not grow with their number.
      microbatch_size: examples that are computed together; `None`, the whole batch.
      precision: of matrix products, as `jax.default_matmul_precision` takes it; `None` leaves
        the ambient one.
      axis_name: the named axis over which the batch is split; the loss is then the device's own,
        and only totals, weights and results are summed over the axis.
      coordinate_axis: an axis of the mesh on which params or batch lie, over which the coordinates
        of a chunk are split; one by which the batch is not split, so that many coordinates of a
        small batch use all devices. `chunk_size` is then each share's.

    Returns:
      An `OrderedDict` of arrays of shape `(K,)` by layer name, in the order of `coordinates`, in
      the layer's dtype and in units of the loss over the weight's square. A coordinate outside
      its layer or a total weight of zero, known only at run time, gives NaN.

    Raises:
      ValueError: a loss that is not scalar, params that do not fit the coordinates, an unknown
        mode, `chunk_size` or `microbatch_size` below 1, a `memory_budget` below one coordinate,
        no coordinates, a function or kernel in the loss without a second derivative, a
        `coordinate_axis` that the mesh has not.

    Example:
      >>> loss = lambda params, batch: jnp.mean((batch["x"] @ params["kernel"]) ** 2)
      >>> params, batch = {"kernel": jnp.ones((3, 2))}, {"x": jnp.eye(3)}
      >>> layers = hgeo.find_layers(params)
      >>> coordinates = hgeo.sample_coordinates(layers, 6, jax.random.key(0))
      >>> print(hgeo.sampled_diagonal(loss, params, batch, coordinates)["kernel"])
      [0.33333334 0.33333334 0.33333334 0.33333334 0.33333334 0.33333334]

    Reference:
      Pearlmutter. Fast Exact Multiplication by the Hessian. Neural Computation, 1994.
    """
    entries, _ = evaluate_quadratic_forms(
        loss,
        params,
        batch,
        coordinates,
        mode=mode,
        chunk_size=chunk_size,
        memory_budget=memory_budget,
        microbatch_size=microbatch_size,
        precision=precision,
        axis_name=axis_name,
        coordinate_axis=coordinate_axis,
    )
    return entries


@in_automatic_axes
def choose_mode(
    loss: Loss,
    params: PyTree,
    batch: PyTree,
    coordinates: Mapping[str, Coordinates],
    *,
    mode: str = "auto",
    microbatch_size: int | None = None,
    axis_name: str | None = None,
) -> ModeChoice:
    """Tells which mode `sampled_diagonal` takes for a loss, and why; computes nothing.

    Adjoint-weighted forward mode, Σ_k ⟨v̄_k, φ_k''[u̇, u̇]⟩, wherever every equation φ_k on the way
    from the layers to the loss is covered. Else the first of the other modes that can be traced and
    lowered:

    - `"forward_over_reverse"` behind a `custom_vjp` function, whose rule is a reverse one, or a
      `custom_jvp` function whose rule is not proved to be its derivative. The proof compares
      programs, equation by equation; it succeeds where the rule calls the function for its value;
    - `"forward_over_forward"` behind a `while` loop of unknown length, which has no reverse one;
    - `"reverse_over_reverse"` behind a `custom_vjp` function whose forward rule calls the function
      itself: a kernel of attention, a loss. It takes what `"forward_over_reverse"` takes, within a
      few percent; `python -m experiments.benchmark probes` measures all modes side by side.

    An operation that JAX can't vmap (`jax.lax.ragged_dot`, a call to the host) changes no mode, but
    each coordinate then takes a pass of its own in a `jax.lax.map`; the reason names it. Operations
    that JAX itself does not define are differentiated and vmapped by themselves to see whether they
    can be.

    Args:
      loss: as in `sampled_diagonal`.
      params: any pytree of arrays or of `jax.ShapeDtypeStruct`, of any shapes.
      batch: the same.
      coordinates: what `sample_coordinates` gives, indices of shape `(K,)`, or any part of it.
      mode: a mode to check, or `"auto"`.
      microbatch_size: as in `sampled_diagonal`.
      axis_name: the same; to be called where that axis is bound.

    Returns:
      A `ModeChoice`: the mode's name and the reason.

    Raises:
      ValueError: an unknown mode, no coordinates, or a function, operation or kernel in the loss
        without a second derivative, which is named.

    Example:
      >>> loss = lambda params, batch: jnp.mean(jnp.tanh(batch @ params) ** 2)
      >>> params, batch = jnp.ones((3, 2)), jnp.eye(3)
      >>> layers = hgeo.find_layers(params, lambda path, leaf: True)
      >>> coordinates = hgeo.sample_coordinates(layers, 6, jax.random.key(0))
      >>> print(hgeo.choose_mode(loss, params, batch, coordinates).mode)
      adjoint_weighted

    Reference:
      Griewank, Walther. Evaluating Derivatives, 2008: forward and reverse mode.
    """
    check_options(coordinates, mode, "auto", None)
    return first_piece(
        lambda total, params, piece: choose(mode, total, params, coordinates),
        *held(loss, params, batch),
        microbatch_size=microbatch_size,
        axis_name=axis_name,
    )
