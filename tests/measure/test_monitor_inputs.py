"""What a monitor may be given: batches, params and keys anywhere, outputs of any structure."""

import jax
import numpy as np
import pytest

import hgeo
from tests.measure.test_monitor import BATCH, LAYERS, NUM, ONE, PARAMS, head, loss, make, outputs


def test_a_fixed_batch_stays_what_it_was():
    own = {"x": BATCH["x"].copy()}
    monitor = make(batch=own, every=1)
    own["x"] *= 2.0  # as a loader that reuses its buffers
    first = monitor(0, PARAMS)
    own["x"] *= 2.0
    assert first == monitor(1, PARAMS) == make()(0, PARAMS, BATCH)


def test_params_and_keys_of_another_device():
    there = jax.tree.map(lambda x: jax.device_put(x, jax.devices()[1]), PARAMS)
    key = jax.device_put(jax.random.key(0), jax.devices()[1])
    expected = make()(0, PARAMS, BATCH)
    assert make(key=key)(0, there, BATCH) == expected
    coordinates = hgeo.sample_coordinates(LAYERS, NUM, key)
    entries = hgeo.make_probe(loss, coordinates, devices=ONE)(there, BATCH)
    for name, own in entries.items():
        r_med = expected[f"hgeo/r_med/{name}"]
        np.testing.assert_allclose(hgeo.r_med(own), r_med, rtol=1e-6)


@pytest.mark.parametrize("kind", ["one number an example", "a dict"])
def test_outputs_of_any_structure_have_a_fisher_matrix(kind):
    plain = lambda *given: outputs(*given)[:, :1]
    wrap, unwrap = {
        "a dict": (lambda z: {"logits": z}, lambda z: z["logits"]),
        "one number an example": (lambda z: z[:, 0], lambda z: z),
    }[kind]
    model, mean = lambda *given: wrap(plain(*given)), lambda z, batch: head(unwrap(z), batch)
    of = lambda *pair: make(pair, statistics=("fisher",))(0, PARAMS, BATCH)
    found, expected = of(model, mean), of(plain, head)
    name = "hgeo/fisher_max_abs/first/kernel"
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_numbers_of_numpy_are_numbers():
    monitor = make(steps_per_epoch=np.int64(5), eps=np.float32(0))
    assert monitor(0, PARAMS, BATCH) == make()(0, PARAMS, BATCH)
