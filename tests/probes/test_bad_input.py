"""Bad input: each raises an error with the value given and the values allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.second_order.modes import MODES

PARAMS = {"kernel": jnp.ones((3, 2)), "step": jnp.array(1)}
BATCH = {"x": jnp.ones((4, 3))}


def _coordinates(num=3):
    return hgeo.sample_coordinates(hgeo.find_layers(PARAMS), num, jax.random.key(0))


def _loss(params, batch):
    return jnp.mean(jnp.tanh(batch["x"] @ params["kernel"]) ** 2)


def _diagonal(loss=_loss, params=PARAMS, batch=BATCH, coordinates=None, **options):
    coordinates = _coordinates() if coordinates is None else coordinates
    return hgeo.sampled_diagonal(loss, params, batch, coordinates, **options)


@pytest.mark.parametrize(
    ("loss", "match"),
    [
        (lambda p, b: b["x"] @ p["kernel"], r"scalar.*\(4, 2\)"),
        (lambda p, b: "loss", r"scalar or hgeo.Weighted.*str"),
        (lambda p, b: (jnp.zeros(()), {}), r"scalar or hgeo.Weighted.*tuple"),
        (lambda p, b: jnp.array(3), "dtype is int32"),
        (lambda p, b: hgeo.Weighted(_loss(p, b), jnp.ones(4)), r"weight has shape \(4,\)"),
    ],
)
@pytest.mark.parametrize("mode", [*MODES, "auto"])
def test_a_loss_that_is_not_a_scalar(loss, match, mode):
    with pytest.raises(ValueError, match=match):
        _diagonal(loss, mode=mode)


def test_params_without_a_floating_leaf():
    with pytest.raises(ValueError, match="no floating leaf"):
        hgeo.find_layers({"step": jnp.array(1)})


def test_a_selection_of_nothing_names_the_pattern_and_the_leaves():
    with pytest.raises(ValueError, match=r"select='decoder'.*kernel"):
        hgeo.find_layers(PARAMS, "decoder")


def test_an_unknown_layer_names_it_and_the_leaves():
    with pytest.raises(ValueError, match=r"'missing'.*kernel"):
        hgeo.find_layers(PARAMS, ["missing"])
    with pytest.raises(ValueError, match=r"'kernel'.*other"):
        _diagonal(params={"other": jnp.ones((3, 2))})
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 2\)"):
        _diagonal(params={"kernel": jnp.ones((2, 2))})


def test_a_selection_of_the_wrong_kind():
    with pytest.raises(TypeError, match="select must be"):
        hgeo.find_layers(PARAMS, 3)


def test_coordinates_outside_their_layer():
    layer = hgeo.find_layers(PARAMS)["kernel"]
    with pytest.raises(ValueError, match=r"must lie in 0 to 5, not \[6, -1\]"):
        hgeo.Coordinates(layer, jnp.array([0, 6, -1]))


@pytest.mark.parametrize("mode", MODES)
def test_traced_coordinates_outside_their_layer_give_nan(mode):
    layer = hgeo.find_layers(PARAMS)["kernel"]
    probe = jax.jit(
        lambda i: _diagonal(coordinates={"kernel": hgeo.Coordinates(layer, i)}, mode=mode)
    )
    found = probe(jnp.array([0, 6, -1, 5]))["kernel"]
    np.testing.assert_array_equal(np.isnan(found), [False, True, True, False])


@pytest.mark.parametrize("num", [0, -2])
def test_fewer_than_one_coordinate(num):
    with pytest.raises(ValueError, match=f"num must be at least 1, not {num}"):
        _coordinates(num)


def test_no_layers_and_no_coordinates():
    with pytest.raises(ValueError, match="no layers"):
        hgeo.sample_coordinates({}, 3, jax.random.key(0))
    with pytest.raises(ValueError, match="no coordinates"):
        _diagonal(coordinates={})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "jet"}, r"adjoint_weighted.*not 'jet'"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
        ({"chunk_size": "all"}, "number or 'auto', not 'all'"),
        ({"memory_budget": 0}, "memory_budget must be at least 1 byte, not 0"),
        ({"chunk_size": 2, "memory_budget": 10**9}, "chunk_size='auto', not 2"),
        ({"microbatch_size": 0}, "microbatch_size must be at least 1, not 0"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        _diagonal(**options)


@pytest.mark.parametrize("mode", MODES)
def test_a_memory_budget_below_one_coordinate_gives_both_numbers(mode):
    with pytest.raises(ValueError, match=r"'kernel' takes about \d+ bytes.*memory_budget is 5"):
        _diagonal(mode=mode, memory_budget=5)


def test_microbatches_of_a_batch_that_disagrees_in_length():
    batch = BATCH | {"y": jnp.ones(5)}
    with pytest.raises(ValueError, match=r"same number of examples.*\[4, 5\]"):
        _diagonal(batch=batch, microbatch_size=2)


def test_a_total_weight_of_zero():
    loss = lambda p, b: hgeo.Weighted(_loss(p, b) * 0.0, jnp.zeros(()))
    with pytest.raises(ValueError, match="total weight must not be 0"):
        _diagonal(loss)
    assert np.all(np.isnan(jax.jit(lambda: _diagonal(loss))()["kernel"]))


def test_a_microbatch_of_weight_zero_is_fine():
    mask = jnp.array([1.0, 1.0, 0.0, 0.0])

    def loss(params, batch):
        each = jnp.mean(jnp.tanh(batch["x"] @ params["kernel"]) ** 2, axis=-1)
        return hgeo.Weighted(jnp.sum(batch["mask"] * each), jnp.sum(batch["mask"]))

    found = _diagonal(loss, batch=BATCH | {"mask": mask}, microbatch_size=2)
    np.testing.assert_allclose(found["kernel"], _diagonal()["kernel"], rtol=1e-6)


def test_a_batch_that_does_not_divide_over_the_devices():
    probe = hgeo.make_probe(_loss, _coordinates(), devices=jax.devices()[:4])
    with pytest.raises(ValueError, match="multiple of the 4 devices, but is 6"):
        probe(PARAMS, {"x": jnp.ones((6, 3))})
