"""What a monitor writes, when, how often it compiles, and what it refuses."""

import builtins
import csv
import importlib.util
import re
import struct
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hgeo
from hgeo.errors import InputError
from hgeo.records.rows import GeometryRow
from tests.measure.truth import assert_r_med

ONE = jax.devices()[:1]
NUM = 5
RNG = np.random.default_rng(0)
PARAMS = {
    "first": {"kernel": RNG.normal(size=(3, 4)).astype(np.float32)},
    "last": {"kernel": RNG.normal(size=(4, 2)).astype(np.float32)},
}
BATCH = {"x": RNG.normal(size=(8, 3)).astype(np.float32)}
LAYERS = hgeo.find_layers(PARAMS)


def outputs(params, batch):
    return jnp.tanh(batch["x"] @ params["first"]["kernel"]) @ params["last"]["kernel"]


def head(outputs, batch):
    return jnp.mean(outputs**2)


def loss(params, batch):
    return head(outputs(params, batch), batch)


def make(loss=loss, layers=LAYERS, **more):
    return hgeo.Monitor(loss, layers, **{"num": NUM, "devices": ONE, **more})


def rows(folder):
    with (folder / "geometry.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_compiles_once_and_does_nothing_between():
    traces = []

    def counted(params, batch):
        traces.append(1)
        return loss(params, batch)

    monitor = make(counted, every=10, statistics=("r_med", "r_diag", "full"))
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if "backend_compile" in event else None
    )
    monitor(0, PARAMS, BATCH)
    assert compiled
    after_one = len(traces)
    compiled.clear()
    for step in (10, np.int64(20)):
        assert monitor(step, jax.tree.map(lambda x: x * 1.5, PARAMS), BATCH) is not None
    assert len(traces) == after_one > 0
    assert not compiled
    # Any use of these arguments would fail.
    assert all(monitor(step, None, None) is None for step in range(1, 10))
    assert [step for step in range(21) if monitor.due(step)] == [0, 10, 20]
    with pytest.raises(TypeError, match=r"for a jax\.Array every call would have to wait"):
        monitor(jnp.int32(3), PARAMS, BATCH)
    with pytest.raises(TypeError, match=r"step must be an integer .* not 3\.5"):
        monitor(3.5, PARAMS, BATCH)


def test_the_numbers_are_those_of_the_library():
    coordinates = hgeo.sample_coordinates(LAYERS, NUM, jax.random.key(3))
    values = make(key=jax.random.key(3))(0, PARAMS, BATCH)
    diagonal = jax.jit(lambda *both: hgeo.sampled_diagonal(loss, *both, coordinates))
    entries = diagonal(PARAMS, BATCH)
    assert_r_med(values, {name: hgeo.r_med(own) for name, own in entries.items()}, rtol=1e-5)
    np.testing.assert_allclose(values["hgeo/loss"], loss(PARAMS, BATCH), rtol=1e-6)
    assert values["hgeo/num_entries/first/kernel"] == NUM


def test_the_file_grows_and_a_step_done_again_takes_its_place(tmp_path):
    of = lambda **more: make(workdir=tmp_path / "new", every=2, steps_per_epoch=4, **more)
    first = of(name="adam", batch=BATCH)
    for step in range(5):
        first(step, PARAMS)
    assert list(rows(tmp_path / "new")[0]) == list(GeometryRow.__dataclass_fields__)
    assert [row["layer_number"] for row in rows(tmp_path / "new")[:8:7]] == ["1", "2"]
    before = rows(tmp_path / "new")
    assert {row["step"] for row in before} == {"0", "2", "4"}
    assert {(row["step"], row["epoch"]) for row in before} >= {("2", "0.5"), ("4", "1")}

    again = of(name="adam")
    other = of(name="sgd", repeat=1)
    changed = again(2, jax.tree.map(lambda x: 2 * x, PARAMS), BATCH)
    other(2, PARAMS, BATCH)
    after = rows(tmp_path / "new")
    at = lambda found, name, step: [
        row for row in found if (row["optimizer"], row["step"]) == (name, step)
    ]
    for step in ("0", "4"):
        assert at(after, "adam", step) == at(before, "adam", step)
    assert len(at(after, "adam", "2")) == len(at(before, "adam", "2"))
    assert at(after, "adam", "2") != at(before, "adam", "2")
    assert float(at(after, "adam", "2")[0]["value"]) == pytest.approx(
        changed["hgeo/r_med/first/kernel"], rel=1e-8
    )
    assert at(after, "sgd", "2")[0] == at(before, "adam", "2")[0] | {
        "optimizer": "sgd", "repeat": "1"
    }  # fmt: skip
    steps = [int(row["step"]) for row in after]
    assert steps == sorted(steps)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["geometry.csv"]


def test_a_file_of_something_else_is_refused_at_once(tmp_path):
    (tmp_path / "geometry.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"geometry\.csv, line 1 is damaged.*the header must be"):
        make(workdir=tmp_path)


@pytest.mark.parametrize("statistic", ["gauss_newton", "fisher"])
def test_a_pair_of_functions_as_the_loss(statistic):
    values = make((outputs, head), statistics=("r_med", statistic))(0, PARAMS, BATCH)
    assert values["hgeo/r_med/last/kernel"] == make()(0, PARAMS, BATCH)["hgeo/r_med/last/kernel"]
    assert np.isfinite(values[f"hgeo/{statistic}_r_med/first/kernel"])
    with pytest.raises(ValueError, match=rf"statistics has '{statistic}', which needs .* pair"):
        make(statistics=(statistic,))(0, PARAMS, BATCH)


@pytest.mark.slow
def test_the_other_statistics_are_measured_too():
    names = ("r_med_spread", "r_diag_across", "low_rank", "full", "spectrum")
    values = make(statistics=names)(0, PARAMS, BATCH)
    for name in ("r_med_low", "r_diag_across_mean", "rank", "r_u", "full_r_med", "smoothness"):
        assert np.isfinite(values[f"hgeo/{name}/first/kernel"]), name
    assert values["hgeo/full_num_entries/first/kernel"] == 12


def test_what_is_not_finite_is_counted_and_said_once(tmp_path):
    names = ("r_med", "r_diag", "low_rank", "full", "spectrum", "r_med_spread")
    broken = jax.tree.map(lambda x: x * np.nan, PARAMS)
    monitor = make(workdir=tmp_path, statistics=names)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        values = monitor(0, broken, BATCH)
    (one,) = [str(warning.message) for warning in said]
    assert one.startswith("step 0: not finite: the loss (nan), 5 of 5 Hessian entries of first/ker")
    assert np.isnan(values["hgeo/r_med/first/kernel"])
    assert values["hgeo/num_nonfinite/first/kernel"] == NUM
    counted = {
        row["layer"]: row["value"]
        for row in rows(tmp_path)
        if row["statistic"] == "full_num_nonfinite"
    }
    assert counted == {"first/kernel": "12", "last/kernel": "8"}


def events(folder):
    """The records of event files: a length and its checksum, the content and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + length])
            at += length + 16


def test_tensorboard_and_a_callback(tmp_path):
    called = []
    monitor = make(
        tensorboard=tmp_path, callback=lambda step, values: called.append((step, values)), every=3
    )
    returned = {step: monitor(step, PARAMS, BATCH) for step in range(4)}
    assert called == [(0, returned[0]), (3, returned[3])]
    assert all(type(value) is float for value in returned[0].values())
    found = [(event.step, value) for event in events(tmp_path) for value in event.summary.value]
    scalars = {
        (step, value.tag): value.simple_value
        for step, value in found
        if not value.HasField("histo")
    }
    assert {step for step, _ in scalars} == {0, 3}
    for name, value in returned[3].items():
        np.testing.assert_allclose(scalars[3, name], value, rtol=1e-6)
    histograms = {value.tag: value.histo for step, value in found if value.HasField("histo")}
    assert list(histograms) == ["hgeo/diagonal/first/kernel", "hgeo/diagonal/last/kernel"]
    largest = 10 ** histograms["hgeo/diagonal/first/kernel"].max
    np.testing.assert_allclose(largest, returned[3]["hgeo/max_abs/first/kernel"], rtol=1e-5)


def test_a_missing_package_is_one_clear_error(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    absent = lambda name, *more: None if name == "tensorboardX" else find(name, *more)
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(ValueError, match=r"pip install 'hgeo\[tensorboard\]'"):
        make(tensorboard=tmp_path)


def test_no_tensorflow_is_loaded(tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *more):
        assert name.partition(".")[0] != "tensorflow"
        return load(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    make(tensorboard=tmp_path, workdir=tmp_path)(0, PARAMS, BATCH)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"every": 0}, ValueError, "every must be a whole number of at least 1, not 0"),
        ({"every": 2.5}, ValueError, "every must be a whole number of at least 1, not 2.5"),
        ({"num": 0}, ValueError, "num must be at least 1, not 0"),
        ({"name": "a\nb"}, ValueError, "name must be one line"),
        ({"layers": ["first"]}, TypeError, "layers must be what hgeo.find_layers gives"),
        ({"layers": {}}, ValueError, "no layers were given"),
        ({"statistics": ()}, ValueError, "statistics must name some of r_med, .*"),
        ({"statistics": "r_med"}, ValueError, "statistics must name some of .* not 'r_med'"),
        ({"statistics": ("rmed",)}, ValueError, "did you mean 'r_med'"),
        ({"statistics": ("condition_number",)}, ValueError, "must name some of"),
        ({"statistics": ("preconditioned",)}, ValueError, "needs optimizer= and preconditioner="),
        ({"chunk": 3}, TypeError, "no option 'chunk'; it has mode, chunk_size"),
        ({"eps": -1.0}, ValueError, "eps must be 0 or more, not -1"),
        ({"microbatch_size": 0}, ValueError, "microbatch_size must be .* at least 1, not 0"),
        ({"mode": "fast"}, ValueError, "mode must be .* not 'fast'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_said_before_any_work(arguments, error, message):
    with pytest.raises(error, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("arguments", "call", "message"),
    [
        ({}, {}, "no batch was given: give it in each call"),
        ({"batch": BATCH}, {"batch": BATCH}, "has a batch for all steps"),
        ({}, {"batch": BATCH, "gradient": PARAMS}, "gradient and updates must be given together"),
        ({"statistics": ("alignment",)}, {"batch": BATCH}, "which needs optimizer= of"),
        ({}, {"batch": BATCH, "params": {"first": PARAMS["first"]}}, "no leaf 'last/kernel'"),
        (
            {"statistics": ("full",), "max_gradients": 0.1},
            {"batch": BATCH},
            "statistics has 'full', but",
        ),
    ],
)
def test_bad_calls(arguments, call, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)(0, **({"params": PARAMS} | call))


def monitored(optimizer, constants, **more):
    """A monitor's values and warnings of two steps."""
    statistics = ("r_med", "preconditioned")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        monitor = make(
            optimizer=optimizer, preconditioner=constants, statistics=statistics, every=1
        )
        state = optimizer.init(PARAMS)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = [monitor(step, PARAMS, BATCH, optimizer_state=state) for step in range(2)][1]
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    return values, [text for text in said if "P is NaN" in text]


@pytest.mark.parametrize(
    ("optimizer", "constants", "reason"),
    [
        (optax.lion(0.1), {}, r"consists of \['ScaleByLionState'"),
        (optax.adamax(0.1), {"b2": 0.999}, "does not divide by the P that its state gives"),
        (optax.adam(0.1, eps=1e-3), {"b2": 0.999}, "does not divide by the P that its state gives"),
        (optax.flatten(optax.adam(0.1)), {"b2": 0.999}, "not of the params' structure"),
    ],
)
def test_why_there_is_no_preconditioner_is_said_once(optimizer, constants, reason):
    values, said = monitored(optimizer, constants)
    (text,) = said
    assert re.search(reason, text), text
    assert "first/kernel" in text
    assert "last/kernel" in text
    assert np.isnan(values["hgeo/preconditioned_r_med/last/kernel"])
    assert np.isfinite(values["hgeo/r_med/last/kernel"])


def test_a_layer_that_is_not_trained_has_no_preconditioner_and_the_other_has():
    labels = {"first": "none", "last": "adam"}
    optimizer = optax.partition({"adam": optax.adam(0.1), "none": optax.set_to_zero()}, labels)
    values, said = monitored(optimizer, {"b2": 0.999})
    assert said == [
        "no preconditioner, so P is NaN: first/kernel (the optimizer does not train it)"
    ]
    assert np.isnan(values["hgeo/preconditioned_r_med/first/kernel"])
    assert np.isfinite(values["hgeo/preconditioned_r_med/last/kernel"])
    assert monitored(optax.adam(0.1), {"b2": 0.999})[1] == []


def test_no_preconditioner_before_the_first_update_of_the_moments_is_said():
    optimizer = optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation()
    values, said = monitored(optimizer, {"b2": 0.999})
    assert np.isnan(values["hgeo/preconditioned_r_med/last/kernel"])
    assert [text.partition(":")[0] for text in said] == 2 * [
        "P is NaN in first/kernel, last/kernel"
    ]
