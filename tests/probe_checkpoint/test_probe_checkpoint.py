"""A probe of somebody's own checkpoint, from Orbax and from safetensors."""

import csv
import json
import os
import pathlib
import pickle
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy
from flax import nnx

import hgeo
from hgeo.errors import InputError
from hgeo.params.leaf_paths import leaves_by_path
from hgeo.probe_checkpoint.__main__ import main
from hgeo.probe_checkpoint.restore import find_saved, restore
from hgeo.report.tables import format_number
from tests.measure.truth import dense_r_med

MODULE = """
import flax.linen as nn, jax, jax.numpy as jnp, numpy as np

model = nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(2)])
x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)

def outputs(params, batch):
    return model.apply(params, batch)

def loss(params, batch):
    return jnp.mean(outputs(params, batch) ** 2)

def target():
    return loss, jax.eval_shape(model.init, jax.random.key(0), x), x

def larger():
    template = jax.eval_shape(nn.Dense(5).init, jax.random.key(0), x)
    return loss, {"params": {"layers_0": template["params"], "layers_2": template["params"]}}, x

def half():
    as_half = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float16)
    return loss, jax.tree.map(as_half, target()[1]), x

def wide():
    return loss, jax.tree.map(lambda leaf: np.zeros(leaf.shape), target()[1]), x

def pair():
    return loss, x
def text():
    return loss, target()[1], "a batch"
def no_loss():
    return 3.0, target()[1], x
def misfit():
    kernel = lambda params: params["params"]["layers_0"]["kernel"]
    return lambda params, batch: jnp.sum(batch @ kernel(params)), target()[1], x[:, :2]
def fails():
    raise RuntimeError("my own trouble")
def infinite():
    return lambda params, batch: loss(params, batch) * jnp.inf, target()[1], x
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "their_model.py").write_text(MODULE)
    (folder / "broken_model.py").write_text("import their_absent_package")
    model = nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(2)])
    params = model.init(jax.random.key(5), np.zeros((1, 3), np.float32))
    with jax.numpy_dtype_promotion("standard"):
        state = {"params": params, "opt_state": optax.adam(1e-3).init(params), "step": 12}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "standard", params)
    ocp.PyTreeCheckpointer().save(folder / "pytree", params)
    for name, items in (("managed", {"state": state}), ("several", {"a": params, "b": params})):
        with ocp.CheckpointManager(folder / name) as manager:
            for step in (3, 12):
                of = {key: ocp.args.StandardSave(item) for key, item in items.items()}
                composite = ocp.args.Composite(**of)
                manager.save(step, args=composite if name == "several" else of["state"])
    arrays = {name: np.asarray(leaf) for name, leaf in leaves_by_path(params).items()}
    safetensors.numpy.save_file(arrays, folder / "slashes.safetensors")
    dots = {f"model.{name.replace('/', '.')}": array for name, array in arrays.items()}
    safetensors.numpy.save_file(dots, folder / "dots.safetensors")
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    safetensors.numpy.save_file(wide, folder / "wide.safetensors")
    (folder / "bad.safetensors").write_text("this is no such file at all")
    (folder / "params.pkl").write_bytes(pickle.dumps(arrays))
    (folder / "empty").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "_METADATA").write_text("{")
    return folder


@pytest.fixture(scope="module")
def params(folder):
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder / "standard")


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(out, *more, checkpoint="standard", target="their_model:target"):
    return main([f"--checkpoint={checkpoint}", f"--target={target}", f"--out={out}", *more])


def rows(out):
    with (out / "geometry.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_r_med_is_that_of_the_dense_hessian(params, tmp_path, capsys):
    code = run(tmp_path / "out", "--num_coordinates=6", "--seed=4", "--statistics=r_med,r_diag")
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    assert max(map(len, said.out.splitlines())) <= 100
    layers = hgeo.find_layers(params)
    coordinates = hgeo.sample_coordinates(layers, 6, jax.random.key(4))
    import their_model

    truth = dense_r_med(their_model.loss, params, their_model.x, coordinates)
    found = {
        row["layer"]: float(row["value"])
        for row in rows(tmp_path / "out")
        if row["statistic"] == "r_med"
    }
    assert list(found) == list(truth) == ["params/layers_0/kernel", "params/layers_2/kernel"]
    for name in truth:
        np.testing.assert_allclose(found[name], truth[name], rtol=1e-3)
        assert re.search(rf"{name} +{format_number(found[name])} ", said.out)
    assert (tmp_path / "out" / "r_med.png").read_bytes()[:4] == b"\x89PNG"
    assert "| 1 | params/layers_0/kernel |" in (tmp_path / "out" / "table.md").read_text()
    restored = json.loads((tmp_path / "out" / "restored.json").read_text())
    assert restored["arrays"]["params/layers_0/kernel"] == "float32[3, 4]"
    assert (restored["parameters"], restored["format"]) == (26, "Orbax")

    before = (tmp_path / "out" / "geometry.csv").read_bytes()
    again = ("--num_coordinates=6", "--seed=4", "--statistics=r_med,r_diag")
    assert run(tmp_path / "out", *again) == 0
    assert (tmp_path / "out" / "geometry.csv").read_bytes() == before
    assert run(tmp_path / "out", "--num_coordinates=6") == 2
    assert "holds a probe with --statistics=r_med,r_diag" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("checkpoint", "subtree", "step", "note"),
    [
        ("pytree", "", None, ""),
        ("managed", "params", 12, "step 12, the latest of 3, 12"),
        ("managed/3", "params", 3, ""),
        ("managed/3/default", "params", None, ""),
        ("several/3/a", "", None, ""),
        ("slashes.safetensors", "", None, ""),
        ("dots.safetensors", "model", None, ""),
    ],
)
def test_each_format_gives_the_saved_arrays(params, checkpoint, subtree, step, note):
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    saved = find_saved(checkpoint, subtree)
    assert (saved.step, saved.note) == (step, note)
    found = restore(saved, template, subtree)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, found, params)


def test_the_state_of_an_nnx_model_and_bfloat16(tmp_path):
    state = nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Param)
    state = jax.tree.map(lambda x: x.astype(jnp.bfloat16), state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "nnx", state)
    safetensors.numpy.save_file(
        {name: np.asarray(leaf) for name, leaf in leaves_by_path(state).items()},
        tmp_path / "nnx.safetensors",
    )
    for name in ("nnx", "nnx.safetensors"):
        found = restore(find_saved(tmp_path / name), state)
        assert jax.tree.structure(found) == jax.tree.structure(state)
        jax.tree.map(np.testing.assert_array_equal, found, state)


BAD = [
    ({"checkpoint": "absent"}, "--checkpoint=absent: there is no such file or folder"),
    ({"checkpoint": "empty"}, "empty holds no Orbax checkpoint"),
    ({"checkpoint": "damaged"}, "damaged has metadata that can't be read"),
    ({"checkpoint": "params.pkl"}, "pickles (.pkl, .pt, .bin) may run code and are never read"),
    ({"checkpoint": "bad.safetensors"}, "bad.safetensors is not a readable safetensors file"),
    ({"checkpoint": "several"}, "holds several items (a, b): give one of them"),
    ({"checkpoint": "managed"}, "beyond it opt_state/0/count, opt_state/0/mu/params/layers_0/bias"),
    ({"checkpoint": "managed"}, "params seem to lie below --subtree=params"),
    ({"more": "--subtree=weights"}, "--subtree=weights: the checkpoint has no 'weights'; it has"),
    ({"target": "their_model:larger"}, "params/layers_0/kernel float32[3, 4] (template float32[3"),
    ({"target": "their_model:half"}, "float32[4] (template float16[4])"),
    (
        {"checkpoint": "wide.safetensors", "target": "their_model:wide"},
        "params/layers_0/bias is float64, which JAX would round: set the environment variable JAX",
    ),
    ({"target": "their_model"}, "--target=their_model must be MODULE:FUNCTION"),
    ({"target": "no_such_model:target"}, "there is no module 'no_such_model' here or installed"),
    ({"target": "broken_model:target"}, "needs a module that is absent"),
    ({"target": "their_model:targets"}, "their_model has no function 'targets'; it has fails, h"),
    (
        {"target": "their_model:pair"},
        "must return (loss, params template, batch), not a tuple of 2",
    ),
    ({"target": "their_model:text"}, "must return as its batch a pytree of arrays; none are ['']"),
    ({"target": "their_model:no_loss"}, "must return as its loss a function or a pair"),
    ({"target": "their_model:fails"}, "fails: RuntimeError: my own trouble"),
    ({"target": "their_model:misfit"}, "dot_general requires contracting dimensions"),
    ({"more": "--statistics=r_mde"}, "did you mean 'r_med'"),
    ({"more": "--statistics=alignment"}, "alignment needs an optimizer's updates"),
    ({"more": "--statistics=fisher"}, "statistics has 'fisher', which needs the model's outputs"),
    ({"more": "--layers=conv"}, "--layers=conv: select='conv' selects no floating leaf"),
    ({"more": "--layers=("}, "--layers=(: missing ), unterminated subpattern"),
    ({"more": "--num_coordinates=many"}, "argument --num_coordinates: invalid int value: 'many'"),
    ({"more": "--num_coordinates=0"}, "num must be at least 1, not 0"),
    ({"more": "--mode=fast"}, "mode must be 'auto' or one of"),
    ({"more": "--chunk_size=0"}, "chunk_size must be at least 1, not 0"),
    ({"more": "--step=3"}, "unrecognized arguments: --step=3"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_input_is_one_line_and_leaves_nothing(given, message, tmp_path, capsys):
    more = [given["more"]] if "more" in given else []
    code = run(tmp_path / "out", *more, **{k: v for k, v in given.items() if k != "more"})
    said = capsys.readouterr()
    assert code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert run(tmp_path) == 2
    assert "holds thesis.tex: give a new or an empty folder" in capsys.readouterr().err
    assert run(tmp_path / "thesis.tex") == 2
    assert "thesis.tex is a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_half_written_files_of_a_killed_process_do_not_stop_the_next(tmp_path, capsys):
    for name in ("geometry.csv", "restored.json"):
        (tmp_path / f".{name}.0123456789abcdef.partial").write_text("half")
    assert run(tmp_path, "--num_coordinates=2") == 0
    assert not list(tmp_path.glob(".*"))
    (tmp_path / ".thesis.tex.partial").write_text("mine")
    capsys.readouterr()
    assert run(tmp_path, "--num_coordinates=2") == 2
    assert "holds .thesis.tex.partial: give a new or an empty" in capsys.readouterr().err


def test_what_is_not_finite_is_marked_and_the_exit_code_3(tmp_path, capsys):
    assert run(tmp_path / "out", target="their_model:infinite") == 3
    said = capsys.readouterr()
    assert "note: step 0: not finite: the loss" in said.out
    assert "Hessian entries of params/layers_0/kernel are not finite" in said.out
    assert "not finite" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.slow
def test_the_command_itself(folder, tmp_path):
    command = [sys.executable, "-m", "hgeo.probe_checkpoint", "--checkpoint=managed"]
    options = ["--subtree=params", "--target=their_model:target", f"--out={tmp_path / 'out'}"]
    root = pathlib.Path(hgeo.__file__).parent.parent
    result = subprocess.run(
        [*command, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "managed, step 12: loss" in result.stdout


def saved_as(folder, names):
    arrays = {name: np.full((2, 2), k, np.float32) for k, name in enumerate(names)}
    safetensors.numpy.save_file(arrays, folder / "their.safetensors")
    return folder / "their.safetensors"


@pytest.mark.parametrize(
    ("names", "template"),
    [
        (["a/query", "a/value"], {"a": {"query": 0, "value": 1}}),
        (["a.query", "a.value"], {"a": {"query": 0, "value": 1}}),
        (["a/query/value", "a/value/value"], {"a": {"query": nnx.Param(0), "value": nnx.Param(1)}}),
        (["a/query/value", "a/value/value"], {"a": {"query": 0, "value": 1}}),
        (["a/query", "a/value"], {"a": {"query": nnx.Param(0), "value": nnx.Param(1)}}),
        (["a/value", "b"], {"a": nnx.Param(0), "b": 1}),
    ],
)
def test_each_array_comes_to_the_leaf_of_its_name(tmp_path, names, template):
    like = jax.tree.map(lambda k: jax.ShapeDtypeStruct((2, 2), jnp.float32), template)
    found = restore(find_saved(saved_as(tmp_path, names)), like)
    assert jax.tree.structure(found) == jax.tree.structure(template)
    expected = jax.tree.leaves(template)
    assert [int(leaf[0, 0]) for leaf in jax.tree.leaves(found)] == expected


@pytest.mark.parametrize(
    ("names", "subtree", "template", "message"),
    [
        (
            ["a.b", "c.d"],
            "",
            {"a": {"b": 0}, "a.b": 0, "c": {"d": 0}},
            "one name, 'a.b', for two leaves of the template, 'a/b' and 'a.b'",
        ),
        (["p/a", "p.a"], "p", {"a": 0}, "has both 'p[./]a' and 'p[./]a', which"),
        (["a/b"], "", {"a": {"b": 0}, "a/b": 0}, "the template: two leaves have one path, 'a/b'"),
    ],
)
def test_a_name_of_two_arrays_or_leaves_is_refused(tmp_path, names, subtree, template, message):
    like = jax.tree.map(lambda _: jax.ShapeDtypeStruct((2, 2), jnp.float32), template)
    with pytest.raises(InputError, match=message):
        restore(find_saved(saved_as(tmp_path, names), subtree), like, subtree)
