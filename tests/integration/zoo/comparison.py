"""One model, every mode, beside the vmapped `jax.jvp` over `jax.grad` that a person would write."""

import contextlib
import functools
import itertools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

import hgeo
from hgeo.losses import as_weighted
from hgeo.second_order.modes import MODES
from tests.probes.dense import QUICK, error

NUM = 3


@contextlib.contextmanager
def lenient(double):
    """The promotion of dtypes and ranks that packages lean on, in float64 or float32."""
    with (
        jax.enable_x64(double),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def coordinates_of(case, most_layers):
    """Some coordinates of at most so many layers, from the first to the last."""
    names = list(case.layers)
    if len(names) > most_layers:
        last = len(names) - 1
        names = [names[k * last // (most_layers - 1)] for k in range(most_layers)]
    layers = {name: case.layers[name] for name in names}
    num = min(NUM, min(layer.size for layer in layers.values()))
    return hgeo.sample_coordinates(layers, num, jax.random.key(0))


def along_gradient(f, weights, tangent):
    return jax.jvp(jax.grad(f), (weights,), (tangent,))[1] @ tangent


def along_slope(f, weights, tangent):
    """For a loss that has forward derivatives alone."""
    slope = lambda weights: jax.jvp(f, (weights,), (tangent,))[1]
    return jax.jvp(slope, (weights,), (tangent,))[1]


def plain_entries(loss, coordinates, second_derivative, params, batch):
    """Diagonal entries by a second derivative in all layers' weights, vmapped."""
    layers = [chosen.layer for chosen in coordinates.values()]
    weights = jnp.concatenate([layer.ravel(params) for layer in layers])
    starts = list(itertools.accumulate((layer.size for layer in layers), initial=0))

    def mean(weights):
        changed = params
        for layer, start in zip(layers, starts, strict=False):
            changed = layer.replace(changed, weights[start : start + layer.size])
        value = as_weighted(loss, changed, batch)
        return value.total / value.weight

    def entry(position):
        tangent = jnp.zeros_like(weights).at[position].set(1.0)
        return second_derivative(mean, weights, tangent)

    positions = [c.indices + start for c, start in zip(coordinates.values(), starts, strict=False)]
    entries = jax.vmap(entry)(jnp.concatenate(positions))
    ends = list(itertools.accumulate(map(len, positions)))
    return dict(zip(coordinates, jnp.split(entries, ends[:-1]), strict=True))


class Compared(NamedTuple):
    """What a model gave.

    Attributes:
      choice: the mode that `auto` takes, with its reason.
      errors: for each mode that runs, the largest error in units of a layer's largest entry.
      truth: the entries that the modes are held to, by layer.
    """

    choice: hgeo.ModeChoice
    errors: dict[str, float]
    truth: dict[str, jax.Array]


def compare(case, most_layers, modes=tuple(MODES)):
    """The modes that can run on a model, against the plain entries, in one compiled program."""
    coordinates = coordinates_of(case, most_layers)
    choice = hgeo.choose_mode(case.loss, case.params, case.batch, coordinates)
    runs = [m for m in modes if m in (choice.mode, "auto") or _can_run(case, coordinates, m)]
    plain = _plain(case, coordinates, choice)

    def all_of_them(params, batch):
        probe = functools.partial(hgeo.sampled_diagonal, case.loss, params, batch, coordinates)
        return plain(params, batch), {mode: probe(mode=mode, chunk_size=NUM) for mode in runs}

    truth, found = jax.jit(all_of_them, compiler_options=QUICK)(case.params, case.batch)
    return Compared(choice, {mode: _largest(found[mode], truth) for mode in runs}, truth)


class Timed(NamedTuple):
    """Seconds that a probe of all layers takes, and the plain entries beside it."""

    choice: hgeo.ModeChoice
    error: float
    compile: tuple[float, float]
    run: tuple[float, float]


def timed(case, repeats=5):
    """A model's probe as `auto` takes it, compiled and run, beside the plain entries."""
    coordinates = coordinates_of(case, len(case.layers))
    choice = hgeo.choose_mode(case.loss, case.params, case.batch, coordinates)
    probe = lambda params, batch: hgeo.sampled_diagonal(case.loss, params, batch, coordinates)
    compiled, compile_seconds = [], []
    for function in (probe, _plain(case, coordinates, choice)):
        start = time.perf_counter()
        compiled.append(jax.jit(function).lower(case.params, case.batch).compile())
        compile_seconds.append(time.perf_counter() - start)
    found, truth = (function(case.params, case.batch) for function in compiled)
    run_seconds = [float("inf")] * 2
    for _ in range(repeats):
        for k, function in enumerate(compiled):
            start = time.perf_counter()
            jax.block_until_ready(function(case.params, case.batch))
            run_seconds[k] = min(run_seconds[k], time.perf_counter() - start)
    return Timed(choice, _largest(found, truth), tuple(compile_seconds), tuple(run_seconds))


def _plain(case, coordinates, choice):
    forward_only = choice.mode == "forward_over_forward"
    second_derivative = along_slope if forward_only else along_gradient
    return functools.partial(plain_entries, case.loss, coordinates, second_derivative)


def _can_run(case, coordinates, mode):
    try:
        hgeo.choose_mode(case.loss, case.params, case.batch, coordinates, mode=mode)
    except ValueError:
        return False
    return True


def _largest(found, truth):
    return max(error(found[name], truth[name]) for name in truth)
