"""Params in shards over two processes, each with four CPU devices."""

import numpy as np
import pytest

from tests.integration.parallel.two_processes import last_words

LOOP = """
import sys, warnings, jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
process, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, process)
import hgeo

mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
rng = np.random.default_rng(0)
draw = lambda *shape: rng.normal(size=shape).astype("float32")
params, x = {"up": draw(8, 12), "down": draw(12, 4)}, draw(16, 8)
put = lambda array, spec: jax.make_array_from_callback(
    array.shape, NamedSharding(mesh, spec), lambda index: array[index]
)
split = {name: put(array, P(("data", "fsdp")) if name == "up" else P(None, "fsdp"))
         for name, array in params.items()}
batch = put(x, P(("data", "fsdp")))
loss = lambda params, batch: jnp.mean((jnp.tanh(batch @ params["up"]) @ params["down"]) ** 2)
layers = hgeo.find_layers(params)
statistics = ("r_med", "low_rank")
both = hgeo.Monitor(loss, layers, num=6, statistics=statistics, workdir=folder)(0, split, batch)
host = hgeo.Monitor(loss, layers, num=6, batch_spec="data")(0, split, x)
one = hgeo.Monitor(loss, layers, num=6, statistics=statistics, devices=jax.local_devices()[:1])
one = one(0, params, x)
names = ["hgeo/r_med/up", "hgeo/r_med/down", "hgeo/r_u/up"]
print(len(jax.devices()), *(float(values.get(name, one[name]))
                            for values in (both, host, one) for name in names))
"""


@pytest.mark.slow
def test_both_give_the_numbers_of_one_device(tmp_path):
    for devices, *values in last_words(LOOP, 4, tmp_path):
        assert devices == "8"
        both, host, one = np.asarray(values, float).reshape(3, 3)
        np.testing.assert_allclose(both, one, rtol=1e-4)
        np.testing.assert_allclose(host, one, rtol=1e-4)
    assert (tmp_path / "geometry.csv").exists()
