"""The collectives between devices, read from the compiled program."""

import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

import hgeo
from hgeo.devices import make_mesh
from hgeo.second_order.modes import MODES

COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(?:-start)?\("
)
SHAPE = re.compile(r"(?:f|s|u|bf)(\d+)\[([\d,]*)\]")


def bytes_exchanged(text):
    """Bytes of every collective's result in a compiled program, and the collectives in loops."""
    found = 0
    for result, _ in COLLECTIVE.findall(text):
        found += sum(bytes_of(*array) for array in SHAPE.findall(result))
    return found


def bytes_of(bits, sizes):
    return int(bits) // 8 * math.prod(int(size) for size in sizes.split(",") if size)


def test_the_reader_counts():
    text = "%a = (f32[20]{0}, f32[]) all-reduce(...)\n %b = f64[2,3]{1,0} all-gather(%x)"
    assert bytes_exchanged(text) == 20 * 4 + 4 + 6 * 8


@pytest.mark.parametrize("mode", MODES)
def test_only_the_entries_and_the_weight_travel(mode):
    num = 12
    params = {"w1": jnp.ones((16, 32)), "w2": jnp.ones((32, 8))}
    batch = jnp.ones((8, 16))
    coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), num, jax.random.key(0))

    def loss(params, batch):
        return jnp.mean(jax.nn.logsumexp(jnp.tanh(batch @ params["w1"]) @ params["w2"], axis=-1))

    def per_device(params, batch, coordinates):
        return hgeo.sampled_diagonal(
            loss, params, batch, coordinates, mode=mode, chunk_size=4, axis_name="data"
        )

    whole, split = PartitionSpec(), PartitionSpec("data")
    mapped = jax.shard_map(
        per_device,
        mesh=make_mesh(jax.devices()[:4]),
        in_specs=(whole, split, whole),
        out_specs=whole,
    )
    text = jax.jit(mapped).lower(params, batch, coordinates).compile().as_text()
    entries = 2 * num
    travelled = bytes_exchanged(text)
    # One float32 a coordinate, and the weight once.
    assert 4 * entries <= travelled <= 4 * entries + 8
