"""Params in shards over two processes, each with four CPU devices."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.experiments import ROOT
from tests.integration.parallel.test_processes import free_port

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
    own = {"JAX_NUM_CPU_DEVICES": "4", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP, str(process), port, str(tmp_path)],
            env={**os.environ, **own, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    said = [process.communicate(timeout=280) for process in processes]
    for process, (output, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors[-2000:]
        devices, *values = output.splitlines()[-1].split()
        assert devices == "8"
        both, host, one = np.asarray(values, float).reshape(3, 3)
        np.testing.assert_allclose(both, one, rtol=1e-4)
        np.testing.assert_allclose(host, one, rtol=1e-4)
    assert (tmp_path / "geometry.csv").exists()
