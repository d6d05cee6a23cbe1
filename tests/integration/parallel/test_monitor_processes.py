"""A monitor in a loop of two processes, each with two CPU devices and half of the batch."""

import csv

import numpy as np
import pytest

from tests.integration.parallel.two_processes import last_words

LOOP = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
process, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, process)
import hgeo

mesh = Mesh(np.array(jax.devices()), ("batch",))
rng = np.random.default_rng(0)
x, params = rng.normal(size=(16, 5)).astype("float32"), {"k": rng.normal(size=(5, 4))}
params = jax.tree.map(lambda leaf: leaf.astype("float32"), params)
split = NamedSharding(mesh, PartitionSpec("batch"))
batch = jax.make_array_from_process_local_data(split, x[process * 8 : process * 8 + 8])
whole = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
loss = lambda params, batch: jnp.mean(jnp.tanh(batch @ params["k"]) ** 2)
called = []
layers = hgeo.find_layers(params)
more = {"workdir": folder, "callback": lambda step, _: called.append(step)}
both = hgeo.Monitor(loss, layers, num=6, **more)(0, whole, batch)
one = hgeo.Monitor(loss, layers, num=6, devices=jax.local_devices()[:1])(0, params, x)
assert called == ([0] if process == 0 else [])
print(len(jax.devices()), both["hgeo/r_med/k"], one["hgeo/r_med/k"])
"""


@pytest.mark.slow
def test_both_give_the_numbers_of_one_and_the_first_one_writes(tmp_path):
    for devices, both, one in last_words(LOOP, 2, tmp_path):
        assert devices == "4"
        np.testing.assert_allclose(float(both), float(one), rtol=1e-5)
    with (tmp_path / "geometry.csv").open(newline="") as file:
        values = {row["statistic"]: float(row["value"]) for row in csv.DictReader(file)}
    np.testing.assert_allclose(values["r_med"], float(both), rtol=1e-8)
