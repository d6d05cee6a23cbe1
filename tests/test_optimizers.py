import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hgeo.devices import make_mesh, place
from hgeo.errors import InputError
from hgeo.experiment.learning_rate_schedule import LearningRateSchedule, make_factor
from hgeo.losses import Weighted
from hgeo.optimizers import OPTIMIZERS, label, make_optimizer
from hgeo.training.checkpoints import Checkpoints
from hgeo.training.updates import TrainState, Updates
from hgeo.workloads.workload import Workload, without_state

ARGUMENTS = {
    "sgd": {},
    "sgdm": {"momentum": 0.8},
    "adam": {"b1": 0.9, "b2": 0.98, "eps": 1e-9},
    "adamw": {"b1": 0.8, "b2": 0.99, "eps": 1e-6},
    "amsgrad": {"b1": 0.7, "b2": 0.9, "eps": 1e-8},
    "adagrad": {"eps": 1e-10},
    "rmsprop": {"decay": 0.95, "momentum": 0.6, "eps": 1e-7},
}
RATE, DECAY = 0.05, 0.02


def reference(name, grads, w, a, decay):
    """The optimizers as PyTorch's documentation defines them, in float64."""
    m = v = top = np.zeros_like(w)
    for t, g in enumerate(grads, start=1):
        if name == "adamw":
            w = w - RATE * decay * w
        else:
            g = g + decay * w
        if name == "sgd":
            w = w - RATE * g
        elif name == "sgdm":
            m = a["momentum"] * m + g
            w = w - RATE * m
        elif name in ("adam", "adamw", "amsgrad"):
            m = a["b1"] * m + (1 - a["b1"]) * g
            v = a["b2"] * v + (1 - a["b2"]) * g**2
            top = np.maximum(top, v)
            square = (top if name == "amsgrad" else v) / (1 - a["b2"] ** t)
            w = w - RATE * m / (1 - a["b1"] ** t) / (np.sqrt(square) + a["eps"])
        elif name == "adagrad":
            v = v + g**2
            w = w - RATE * g / (np.sqrt(v) + a["eps"])
        elif name == "rmsprop":
            v = a["decay"] * v + (1 - a["decay"]) * g**2
            m = a["momentum"] * m + g / (np.sqrt(v) + a["eps"])
            w = w - RATE * m
    return w


def end_of(optimizer, grads, start):
    with jax.numpy_dtype_promotion("standard"):
        w = jnp.asarray(start, jnp.float32)
        state = optimizer.init(w)
        for g in grads:
            updates, state = optimizer.update(jnp.asarray(g, jnp.float32), state, w)
            w = optax.apply_updates(w, updates)
    return np.asarray(w)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(50, 7)) * 10.0 ** rng.integers(-5, 2, size=7)[None]
    return grads * np.linspace(2, 0.1, 50)[:, None], rng.normal(size=7)


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_follows_its_definition(name, decay, problem):
    grads, start = problem
    arguments = {"learning_rate": RATE, "weight_decay": decay, **ARGUMENTS[name]}
    expected = reference(name, grads, start, ARGUMENTS[name], decay)
    end = end_of(make_optimizer(name, arguments), grads, start)
    np.testing.assert_allclose(end, expected, rtol=1e-5, atol=1e-5)


RATES = {"lion": 0.02, "muon": 0.05, "sophia": 0.05, "yogi": 0.1, "sgd": 0.05}


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lion", "muon", "sophia", "adan", "yogi"])
def test_converges_compiles_once_and_survives_a_checkpoint(name, tmp_path):
    """On eight devices, for ours and for Optax's by Optax's names."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 5)).astype(np.float32)
    y = x @ rng.normal(size=(5, 3)).astype(np.float32)

    def outputs(variables, batch):
        return batch["x"] @ variables["params"]["w"]

    def head(outputs, batch):
        errors = outputs - batch["y"]
        return Weighted(jnp.sum(errors**2), jnp.float32(errors.shape[0]))

    workload = Workload(
        init=lambda key: {"params": {"w": jnp.zeros((5, 3))}},
        outputs=outputs,
        head=head,
        training_loss=without_state(outputs, head),
        metrics=lambda variables, batch: {},
        layer_paths=["w"],
        examples={"x": x, "y": y},
        held_out={},
        dropout=False,
        sha256="",
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        arguments = {"learning_rate": RATES.get(name, 0.1)}
        optimizer = make_optimizer(name, arguments)
        mesh = make_mesh()
        optimizer_of = lambda rate: make_optimizer(name, arguments, rate=rate)
        updates = Updates(workload, optimizer_of, jax.random.key(0), mesh)
        rates = [arguments["learning_rate"]]
        variables = workload.init(jax.random.key(0))
        state = TrainState(variables, optimizer.init(variables["params"]), jnp.int32(0))
        state, examples = place(state, mesh), place(workload.examples, mesh)
        losses = []
        for step in range(60):
            rows = np.random.default_rng(step).permutation(64)[:32].astype(np.int32)
            state, info = updates(state, examples, rows[None], rates)
            losses.append(float(info.loss))
            if step == 30:
                checkpoints = Checkpoints(tmp_path)
                checkpoints.save(step, state)
                state = checkpoints.restore(step, state)
                checkpoints.close()
    assert updates.alone._cache_size() == 1
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert label(name) == (OPTIMIZERS[name].label if name in OPTIMIZERS else name)


def test_gradients_are_clipped_before_all_else(problem):
    grads, start = problem
    arguments = {"learning_rate": RATE, "momentum": 0.5}
    clipped = [g / max(1.0, np.linalg.norm(g) / 2.0) for g in grads]
    assert any(np.linalg.norm(g) > 2.0 for g in grads)
    end = end_of(make_optimizer("sgdm", arguments, max_gradient_norm=2.0), grads, start)
    np.testing.assert_allclose(end, reference("sgdm", clipped, start, {"momentum": 0.5}, 0.0), 1e-5)


def schedule(**changes):
    given = {"kind": "constant", "warmup_steps": 0, "drop_every": 0, "drop_factor": 1.0}
    return LearningRateSchedule(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        ({"kind": "linear"}, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ({"kind": "step", "drop_every": 2, "drop_factor": 0.1}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"kind": "linear", "warmup_steps": 2}, [0.5, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
    ],
)
def test_learning_rate_schedules(changes, expected):
    factor = make_factor(schedule(**changes), steps=6)
    optimizer = make_optimizer("sgd", {"learning_rate": 0.1}, factor)
    w = jnp.zeros(())
    state = optimizer.init(w)
    taken = []
    for _ in expected:
        update, state = optimizer.update(jnp.ones(()), state, w)
        taken.append(-float(update) / 0.1)
    np.testing.assert_allclose(taken, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("adamm", {}, "unknown optimizer 'adamm'; known are sgd, sgdm, adam"),
        ("chain", {}, "unknown optimizer 'chain'"),
        ("scale_by_learning_rate", {}, "unknown optimizer 'scale_by_learning_rate'"),
        ("sm3", {}, "config.sm3: optax's sm3 .* makes no updates from a gradient and a sched"),
        ("dpsgd", {}, "optax's dpsgd .* missing 3 required positional arguments"),
        ("adam", {"beta": 1}, r"config\.adam has \['beta'\], but takes only .*'b1', 'b2', 'eps'"),
        ("lion", {"momentum": 1}, r"config\.lion has \['momentum'\], but takes only"),
        ("sgd", {"learning_rate": 0.0}, r"learning_rate must be a positive number, not 0\.0"),
        ("lion", {"learning_rate": "1"}, "learning_rate must be a positive number, not '1'"),
    ],
)
def test_bad_arguments(name, arguments, message):
    with pytest.raises(InputError, match=message):
        make_optimizer(name, {"learning_rate": 0.1, **arguments})


@pytest.mark.parametrize("name", ["sophia", "momo_adam", "prodigy", "muon"])
def test_optimizers_that_take_more_than_a_gradient_are_known(name):
    make_optimizer(name, {"learning_rate": 0.1})
