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
    remat: str = "auto",
) -> "OrderedDict[str, jax.Array]":
    """Computes exact entries of each layer's Hessian diagonal at the given coordinates.

        H_ii = ∂²L/∂w_i²,   L = Σ total / Σ weight over the batch,

    where w is the layer's flat vector and all other weights are constant. It does not jit; wrap it
    in `jax.jit`, or take `make_probe`. It runs inside `jit`, under `vmap` over stacked params, and
    in `shard_map` or `pmap` with a named axis. Under `jit`, params and batch may be sharded by any
    `NamedSharding`, on automatic or explicit mesh axes. The loss then sees global arrays, and the
    program gathers no more than a forward pass does.

    Args:
      loss: `loss(params, batch)` -> scalar, the batch's mean, or `hgeo.Weighted`.
      params: any pytree; leaves that are not arrays (functions, strings, enums) are static.
      batch: the same; with `microbatch_size`, arrays whose leading axis counts the examples.
      coordinates: what `sample_coordinates` gives, or any part of it.
      mode: `"adjoint_weighted"` (one tangent sweep a coordinate: the fastest),
        `"forward_over_reverse"` (`jax.jvp` over `jax.grad`), `"forward_over_forward"` (`jax.jvp`
        over `jax.jvp`: no backward pass) or `"reverse_over_reverse"` (`jax.grad` over `jax.grad`:
        the cost of jvp over grad, without a forward derivative). Their results agree to rounding.
        `"auto"` takes the first of them that can run; `choose_mode` tells which.
      chunk_size: coordinates that are computed together, by `vmap`; it changes speed and memory,
        not values. A chunk of 1 is not vmapped; hgeo also takes chunks of 1 if the loss has an
        operation that can't be vmapped. `"auto"`: as many as gain speed and fit into
        `memory_budget`.
      memory_budget: bytes that the temporaries of one chunk may take, by an estimate that errs on
        the high side; needs `chunk_size="auto"`. Values and gradients that all coordinates share
        are not counted; they do not grow with the number of coordinates.
      microbatch_size: examples that are computed together; `None`: the whole batch.
      precision: of matrix products, as in `jax.default_matmul_precision`; `None`: the precision
        that is set outside.
      axis_name: the named axis over which the batch is split. The loss then sees one device's
        share; only totals, weights and results are summed over the axis.
      coordinate_axis: a mesh axis of the params or the batch, over which the coordinates of a chunk
        are split. Choose an axis that does not split the batch: with a small batch, many
        coordinates then use all devices. `chunk_size` then counts each device's share.
      remat: in adjoint-weighted mode, `"block"` keeps the loss's values and adjoints at about
        √depth places and recomputes those between for up to 32 coordinates at a time. It takes
        less memory in deep models, and more time. `"none"` keeps all of them. `"auto"` takes
        `"block"` if the loss has a `jax.checkpoint` outside of loops, whose place and policy then
        do not matter.

    Returns:
      An `OrderedDict` of arrays of shape `(K,)` by layer name, in the order of `coordinates`, in
      the layer's dtype and in units of the loss over the weight's square. A traced coordinate
      outside its layer, or a traced total weight of zero, gives NaN.

    Raises:
      ValueError: a loss that is not scalar, params that do not fit the coordinates, an unknown
        mode, `chunk_size` or `microbatch_size` below 1, a `memory_budget` too small for one
        coordinate, no coordinates, a function or kernel in the loss without a second derivative, a
        `coordinate_axis` that is no axis of the mesh.

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
        remat=remat,
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
    """Tells which mode `sampled_diagonal` takes for a loss, and why.

    It traces the loss and computes no entries. The mode is adjoint-weighted forward mode,
    Σ_k ⟨v̄_k, φ_k''[u̇, u̇]⟩, if it covers every equation φ_k between the layers and the loss.
    Otherwise it is the first of these modes that can be traced and lowered:

    - `"forward_over_reverse"`: for a `custom_vjp` function, which has a reverse rule only, or a
      `custom_jvp` function whose rule is not proved to be its derivative. The proof compares
      programs, equation by equation; it succeeds if the rule calls the function for its value;
    - `"forward_over_forward"`: for a `while` loop of unknown length, which has no reverse rule;
    - `"reverse_over_reverse"`: for a `custom_vjp` function whose forward rule calls the function
      itself, such as an attention kernel or a loss. Its time is that of `"forward_over_reverse"`
      within a few percent; `python -m experiments.benchmark probes` measures all modes.

    If JAX can't vmap an operation (`jax.lax.ragged_dot`, a call to the host), the mode stays, but
    each coordinate takes a separate pass in a `jax.lax.map`; the reason names the operation. hgeo
    traces the derivatives and the vmap of operations that JAX does not define.

    Args:
      loss: as in `sampled_diagonal`.
      params: any pytree of arrays or of `jax.ShapeDtypeStruct`, of any shapes.
      batch: the same.
      coordinates: what `sample_coordinates` gives, indices of shape `(K,)`, or any part of it.
      mode: a mode to check, or `"auto"`.
      microbatch_size: as in `sampled_diagonal`.
      axis_name: the same; call the function where that axis is bound.

    Returns:
      A `ModeChoice`: the mode's name and the reason.

    Raises:
      ValueError: an unknown mode, no coordinates, or a function, operation or kernel in the loss
        without a second derivative; the message names it.

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
