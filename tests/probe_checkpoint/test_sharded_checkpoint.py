"""Checkpoints read into shards over a mesh, of which no array is whole on a host."""

import csv
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
import safetensors.numpy
from jax.sharding import PartitionSpec

from hgeo.params.leaf_paths import leaves_by_path
from hgeo.probe_checkpoint.__main__ import main
from hgeo.probe_checkpoint.restore import find_saved, restore
from hgeo.probe_checkpoint.shards import parse_mesh, shardings_along

MODULE = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec

x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
template = {
    "up": jax.ShapeDtypeStruct((4, 6), jnp.float32),
    "down": jax.ShapeDtypeStruct((6, 3), jnp.float32),
    "scale": jax.ShapeDtypeStruct((), jnp.float32),
}

def loss(params, batch):
    return params["scale"] * jnp.mean((jnp.tanh(batch @ params["up"]) @ params["down"]) ** 2)

def target():
    return loss, template, x

def shardings(mesh, params):
    by_rows = lambda leaf: PartitionSpec("fsdp") if leaf.ndim else PartitionSpec()
    return jax.tree.map(by_rows, params)
"""
PLAIN = MODULE[: MODULE.index("def shardings")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    (folder / "sharded_target.py").write_text(MODULE)
    (folder / "plain_target.py").write_text(PLAIN)
    draw = np.random.default_rng(1).normal
    shapes = {"up": (4, 6), "down": (6, 3), "scale": ()}
    params = {name: np.float32(draw(size=shape)) for name, shape in shapes.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "orbax", jax.tree.map(jnp.asarray, params))
    arrays = {name: np.asarray(leaf) for name, leaf in params.items()}
    safetensors.numpy.save_file(arrays, folder / "file.safetensors")
    return folder, params


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder[0])
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(out, *more, target="plain_target", checkpoint="orbax"):
    options = (f"--checkpoint={checkpoint}", f"--target={target}:target", f"--out={out}")
    return main([*options, "--num_coordinates=5", *more])


def r_med(out):
    with (out / "geometry.csv").open(newline="") as file:
        return {
            row["layer"]: float(row["value"])
            for row in csv.DictReader(file)
            if row["statistic"] == "r_med"
        }


@pytest.mark.parametrize("checkpoint", ["orbax", "file.safetensors"])
def test_each_array_comes_into_its_shards(folder, checkpoint, monkeypatch):
    mesh, (_, params) = parse_mesh("data:2,fsdp:2"), folder
    shardings = shardings_along("fsdp", mesh, params)
    assert [shardings[name].spec for name in ("up", "down")] == [
        PartitionSpec(None, ("fsdp",)),
        PartitionSpec(("fsdp",), None),
    ]
    template = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    whole = []
    monkeypatch.setattr(np, "asarray", spy(np.asarray, whole))
    restored = restore(find_saved(checkpoint), template, shardings=shardings)
    monkeypatch.undo()
    assert max(whole, default=0) < 18, "a matrix came whole to the host"
    for name, leaf in leaves_by_path(restored).items():
        assert leaf.sharding.is_equivalent_to(shardings[name], leaf.ndim)
        np.testing.assert_array_equal(leaf, params[name])


def spy(function, sizes):
    """The function, noting the sizes of the NumPy arrays that it is given."""

    def noting(array, *more, **options):
        if isinstance(array, np.ndarray) and array.dtype == np.float32:
            sizes.append(array.size)
        return function(array, *more, **options)

    return noting


def test_the_numbers_of_one_device(tmp_path):
    assert run(tmp_path / "one") == 0
    expected = r_med(tmp_path / "one")
    assert len(expected) == 2
    for name, options in {
        "along": ("--shard=fsdp",),
        "by_function": ("--split_batch=data",),
    }.items():
        target = "sharded_target" if name == "by_function" else "plain_target"
        out = tmp_path / name
        kind = "file.safetensors" if name == "along" else "orbax"
        assert run(out, "--mesh=data:2,fsdp:2", *options, target=target, checkpoint=kind) == 0
        found = r_med(out)
        for layer, value in expected.items():
            np.testing.assert_allclose(found[layer], value, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mesh=data", "--shard=data"), "must name each axis once with its size"),
        (("--mesh=data:64", "--shard=data"), "takes 64 devices, but there are 8"),
        (("--mesh=data:2,fsdp:4", "--shard=model"), "--shard must name axes of --mesh"),
        (("--mesh=fsdp:5", "--shard=fsdp"), "no axis divides by the 5 shares of --shard=fsdp"),
        (("--mesh=data:2",), "needs --shard, or a function shardings"),
        (("--shard=fsdp",), "give --mesh too"),
        (("--mesh=a:3,fsdp:2", "--shard=fsdp"), "has 8 examples, which the 6 shares along a, fsdp"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(options, message, tmp_path, capsys):
    assert run(tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_shardings_that_do_not_divide(tmp_path, capsys):
    assert run(tmp_path / "out", "--mesh=fsdp:4", target="sharded_target") == 2
    assert "down has shape [6, 3], which does not divide by" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
