"""Params in shards over a mesh: the numbers of one device, and no more gathered than one layer."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import hgeo
from hgeo.second_order.modes import MODES
from tests import sharded_models as sharded
from tests.probes.dense import quick
from tests.probes.test_collectives import COLLECTIVE, SHAPE, bytes_of

AXIS_TYPES = {"automatic": AxisType.Auto, "explicit": AxisType.Explicit}


def program(dtype, kind, axis_type, mode, **options):
    """Compiled, its arguments, and what one device gives."""
    params, batch = sharded.init_params(dtype), sharded.make_batch()
    coordinates = sharded.coordinates_of(params)
    probe = lambda params, batch: hgeo.sampled_diagonal(
        sharded.loss, params, batch, coordinates, mode=mode, **options
    )
    given = sharded.placed(params, batch, sharded.mesh_of(kind, axis_type), kind)
    return quick(probe).lower(*given).compile(), given, quick(probe)(params, batch)


def check_gathers(text, params, kind):
    """No all-gather is of whole params: under FSDP, of no more than one layer's matrix."""
    sizes = [leaf.nbytes for leaf in jax.tree.leaves(params)]
    most = max(sizes) if kind == "fsdp" else sum(sizes) / 2
    found = COLLECTIVE.findall(text)
    assert found
    for result, collective in found:
        for array in SHAPE.findall(result) if collective == "all-gather" else ():
            assert bytes_of(*array) <= most


def check_equal(found, expected, tolerance):
    assert list(found) == list(expected)
    for name, entries in expected.items():
        scale = np.abs(entries).max()
        np.testing.assert_allclose(found[name], entries, rtol=0, atol=tolerance * scale)


# Compiled for eight devices each takes long: three kinds on every change, the others in turn.
ALWAYS = {("fsdp", "automatic"), ("both", "automatic"), ("both", "explicit")}
CASES = [
    pytest.param(
        *case,
        marks=() if case[0] == "adjoint_weighted" and case[1:] in ALWAYS else pytest.mark.slow,
    )
    for case in itertools.product(MODES, sharded.SHAPES, AXIS_TYPES)
]


@pytest.mark.parametrize(("mode", "kind", "axis_type"), CASES)
def test_the_numbers_of_one_device(mode, kind, axis_type):
    with jax.enable_x64(True):
        compiled, given, expected = program(
            jnp.float64, kind, AXIS_TYPES[axis_type], mode, chunk_size=1
        )
        check_equal(compiled(*given), expected, 1e-10)
        check_gathers(compiled.as_text(), given[0], kind)


@pytest.mark.parametrize(
    "kind", [k if k == "both" else pytest.param(k, marks=pytest.mark.slow) for k in sharded.SHAPES]
)
def test_recomputed_values_give_the_numbers_of_one_device(kind):
    with jax.enable_x64(True):
        options = {"chunk_size": 2, "remat": "block"}
        compiled, given, expected = program(
            jnp.float64, kind, AxisType.Auto, "adjoint_weighted", **options
        )
        check_equal(compiled(*given), expected, 1e-10)
        check_gathers(compiled.as_text(), given[0], kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sharded.SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_float32(mode, kind):
    compiled, given, expected = program(jnp.float32, kind, AxisType.Auto, mode)
    check_equal(compiled(*given), expected, 2e-5)
