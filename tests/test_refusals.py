"""Bad input of public functions: each error has the value given and the values allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hgeo
from tests.measure.quadratic import BATCH, KEY, LAYER, LAYERS, ONE, PARAMS, mean_square, monitor

POINTS = {"w": hgeo.Coordinates(LAYER, jnp.array([0, 3]))}
ADAM = optax.adam(0.1)

# Every probe, called with a loss, params and a batch.
PROBES = {
    "sampled_diagonal": lambda *given: hgeo.sampled_diagonal(*given, POINTS),
    "full_diagonal": lambda *given: hgeo.full_diagonal(*given, LAYERS),
    "full_diagonal_cost": lambda *given: hgeo.full_diagonal_cost(*given, LAYERS),
    "stochastic_diagonal": lambda *given: hgeo.stochastic_diagonal(*given, LAYERS, KEY, 2),
    "row_dominance": lambda *given: hgeo.row_dominance(*given, POINTS),
    "quadratic_forms": lambda *given: hgeo.quadratic_forms(*given, POINTS),
    "spectrum": lambda *given: hgeo.spectrum(*given, LAYER, KEY, num_matvecs=2),
    "condition_number": lambda *given: hgeo.condition_number(*given, LAYER),
    "choose_mode": lambda *given: hgeo.choose_mode(*given, POINTS),
    "make_probe": lambda loss, *given: hgeo.make_probe(loss, POINTS, devices=ONE)(*given),
    "Monitor": lambda loss, *given: monitor(loss=loss)(0, *given),
}

# Bad input of all probes: (the change, the error, its message).
MISTAKES = {
    "a loss that returns aux": (
        {"loss": lambda p, b: (mean_square(p, b), {})}, ValueError, "scalar or hgeo.Weighted.*tuple"
    ),
    "a loss that returns a dict": (
        {"loss": lambda p, b: {"loss": mean_square(p, b)}}, ValueError, "hgeo.Weighted.*dict"
    ),
    "a loss that returns nothing": (
        {"loss": lambda p, b: None}, ValueError, "scalar or hgeo.Weighted.*NoneType"
    ),
    "a loss that returns a number": (
        {"loss": lambda p, b: 1.5}, ValueError, "depend on the params, not the number 1.5"
    ),
    "a loss of each example": (
        {"loss": lambda p, b: jnp.mean((b @ p["w"]) ** 2, axis=1)},
        ValueError, r"must be a scalar; its value has shape \(4,\)",
    ),
    "a complex loss": (
        {"loss": lambda p, b: mean_square(p, b) + 0j}, ValueError, "real floating .* complex"
    ),
    "an integer loss": ({"loss": lambda p, b: jnp.int32(3)}, ValueError, "real floating .* int32"),
    "a weight that is missing": (
        {"loss": lambda p, b: hgeo.Weighted(mean_square(p, b), None)},
        ValueError, "must hold a total and a weight, not Weighted",
    ),
    "no loss": ({"loss": None}, TypeError, "the loss must be a function .* not None"),
    "a loss that makes a float": (
        {"loss": lambda p, b: float(mean_square(p, b))},
        (TypeError, ValueError), "operations of JAX|not the number",
    ),
    "a loss that branches": (
        {"loss": lambda p, b: mean_square(p, b) if mean_square(p, b) > 0 else 0.0},
        TypeError, "must use operations of JAX only",
    ),
    "a loss in NumPy": (
        {"loss": lambda p, b: np.mean(np.asarray(p["w"]))}, TypeError, "operations of JAX"
    ),
    "params of another shape": (
        {"params": {"w": jnp.ones((2, 4))}}, ValueError, r"shape \(2, 3\) at 'w', .* \(2, 4\)"
    ),
    "params of another name": (
        {"params": {"v": jnp.ones((2, 3))}}, ValueError, r"no leaf 'w'; they have \['v'\]"
    ),
    "a leaf that is None": ({"params": {"w": None}}, ValueError, r"no leaf 'w'; they have \[\]"),
    "integer params": (
        {"params": {"w": jnp.ones((2, 3), jnp.int32)}}, ValueError, "floating, but .* int32 at 'w'"
    ),
    "complex params": (
        {"params": {"w": jnp.ones((2, 3), jnp.complex64)}}, ValueError, "floating, but .* complex"
    ),
    "two leaves of one path": (
        {"params": {"w": PARAMS["w"], "a": {"b": BATCH}, "a/b": BATCH}},
        ValueError, r"one path, 'a/b': \['a'\]\['b'\] and \['a/b'\]",
    ),
    "a batch without examples": (
        {"batch": jnp.zeros((0, 2))}, ValueError, r"must have examples, .* shapes \[\(0, 2\)\]"
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_no_probe_takes(mistake, probe):
    change, error, message = MISTAKES[mistake]
    given = {"loss": mean_square, "params": PARAMS, "batch": BATCH} | change
    with jax.numpy_dtype_promotion("standard"), pytest.raises(error, match=message):
        PROBES[probe](given["loss"], given["params"], given["batch"])


def test_an_error_of_the_loss_itself_says_which_batch_it_had():
    for name, probe in PROBES.items():
        with pytest.raises(TypeError) as raised:
            probe(mean_square, PARAMS, {"x": BATCH})
        note = "the loss was called with a batch of type dict (x: (4, 2))"
        assert note in getattr(raised.value, "__notes__", ()), name


ARGUMENTS = {
    # find_layers
    "find_layers: no arrays": (lambda: hgeo.find_layers({"n": 3.0}), "no floating leaf.*'float'"),
    "find_layers: a pattern that matches nothing": (
        lambda: hgeo.find_layers(PARAMS, "decoder"), "select='decoder' selects no floating leaf"
    ),
    "find_layers: no pattern": (lambda: hgeo.find_layers(PARAMS, "("), "select='\\('.*expression"),
    "find_layers: nothing": (lambda: hgeo.find_layers(PARAMS, []), r"select=\[\] selects no"),
    "find_layers: a number": (lambda: hgeo.find_layers(PARAMS, 3), "select must be None, a reg"),
    "find_layers: a position": (lambda: hgeo.find_layers(PARAMS, [0]), "no floating leaf 0"),
    "find_layers: a name of nothing": (
        lambda: hgeo.find_layers(PARAMS, {"a": None}), "to a path or to several, not to None"
    ),
    "find_layers: a slice outside": (
        lambda: hgeo.find_layers(PARAMS, [hgeo.LeafSlice("w", 2)]), r"w\[2\] is outside a leaf"
    ),
    "find_layers: columns outside": (
        lambda: hgeo.find_layers(PARAMS, [hgeo.LeafSlice("w", 2, 1, 2)]), r"w\[:, 2:4\] is outside"
    ),
    "find_layers: an axis outside": (
        lambda: hgeo.find_layers(PARAMS, [hgeo.LeafSlice("w", 0, 2)]), r"w\[:, :, 0\] is outside"
    ),
    "find_layers: no columns": (
        lambda: hgeo.find_layers(PARAMS, [hgeo.LeafSlice("w", 0, 1, 0)]), r"w\[:, 0:0\] is outside"
    ),
    "find_layers: an empty leaf": (
        lambda: hgeo.find_layers({"w": jnp.ones((0, 2))}), r"is empty: its shapes are \(\(0, 2\)"
    ),
    "find_layers: stacked": (lambda: hgeo.find_layers(PARAMS, stacked=3), "stacked=3 must be a re"),
    "Layer.replace: another size": (
        lambda: LAYER.replace(PARAMS, jnp.ones(5)), r"a vector of shape \(6,\), not \(5,\)"
    ),
    # coordinates and directions
    "sample_coordinates: params": (
        lambda: hgeo.sample_coordinates(PARAMS, 3, KEY), "what hgeo.find_layers gives"
    ),
    "sample_coordinates: one layer": (
        lambda: hgeo.sample_coordinates(LAYER, 3, KEY), "a mapping from names, not a Layer"
    ),
    "sample_coordinates: none": (lambda: hgeo.sample_coordinates(LAYERS, 0, KEY), "num .* not 0"),
    "sample_coordinates: a half": (
        lambda: hgeo.sample_coordinates(LAYERS, 2.5, KEY), "num must be a whole number, not 2.5"
    ),
    "sample_coordinates: a seed": (
        lambda: hgeo.sample_coordinates(LAYERS, 3, 0), r"such as jax.random.key\(0\), not 0"
    ),
    "Coordinates: a name": (
        lambda: hgeo.Coordinates("w", jnp.array([0])), "must be one of hgeo.find_layers, not 'w'"
    ),
    "Coordinates: outside": (
        lambda: hgeo.Coordinates(LAYER, jnp.array([6])), r"must lie in 0 to 5, not \[6\]"
    ),
    "Coordinates: two axes": (
        lambda: diagonal({"w": hgeo.Coordinates(LAYER, jnp.array([[0]]))}), "int32 of shape .1, 1"
    ),
    "Coordinates: floating": (
        lambda: diagonal({"w": hgeo.Coordinates(LAYER, jnp.array([0.0]))}), "integers.* float32"
    ),
    "Coordinates: a list": (
        lambda: diagonal({"w": hgeo.Coordinates(LAYER, [0])}), r"array of integers .* not \[0\]"
    ),
    "Directions: one axis": (
        lambda: hgeo.quadratic_forms(
            mean_square, PARAMS, BATCH, {"w": hgeo.Directions(LAYER, jnp.ones(6))}
        ),
        r"must have shape \(num, 6\), not \(6,\)",
    ),
    # probes
    "sampled_diagonal: layers": (lambda: diagonal(LAYERS), "sample_coordinates gives.* to Layer"),
    "sampled_diagonal: one layer's": (lambda: diagonal(POINTS["w"]), "not a Coordinates"),
    "sampled_diagonal: nothing": (lambda: diagonal({}), "no coordinates were given"),
    "sampled_diagonal: mode": (lambda: diagonal(mode="jet"), "mode must be 'auto' or .* not 'jet'"),
    "sampled_diagonal: chunk_size": (lambda: diagonal(chunk_size=2.5), "whole number, not 2.5"),
    "sampled_diagonal: microbatch_size": (
        lambda: diagonal(microbatch_size=0), "microbatch_size must be at least 1, not 0"
    ),
    "sampled_diagonal: precision": (lambda: diagonal(precision="best"), "precision .* not 'best'"),
    "full_diagonal: coordinates": (
        lambda: hgeo.full_diagonal(mean_square, PARAMS, BATCH, POINTS), "find_layers gives"
    ),
    "full_diagonal: max_gradients": (
        lambda: hgeo.full_diagonal(mean_square, PARAMS, BATCH, LAYERS, max_gradients=0),
        "more than max_gradients=0",
    ),
    "stochastic_diagonal: one sample": (
        lambda: hgeo.stochastic_diagonal(mean_square, PARAMS, BATCH, LAYERS, KEY, 1),
        "num_samples must be at least 2 for a standard error, not 1",
    ),
    "spectrum: a name": (
        lambda: hgeo.spectrum(mean_square, PARAMS, BATCH, "w", KEY), "mapping from names, not a str"
    ),
    "spectrum: num_matvecs": (
        lambda: hgeo.spectrum(mean_square, PARAMS, BATCH, LAYER, KEY, num_matvecs=7),
        "num_matvecs must lie in 1 to 6, .* not 7",
    ),
    "make_probe: devices": (
        lambda: hgeo.make_probe(mean_square, POINTS, devices="cpu"), "list of devices.* not 'cpu'"
    ),
    "make_probe: no devices": (
        lambda: hgeo.make_probe(mean_square, POINTS, devices=[]), r"list of devices.* not \[\]"
    ),
    "make_probe: a batch that does not divide": (
        lambda: hgeo.make_probe(mean_square, POINTS, devices=jax.devices()[:2])(PARAMS, BATCH[:3]),
        "multiple of the 2 devices, but is 3",
    ),
    "gauss_newton: no head": (lambda: hgeo.gauss_newton(mean_square, None), "head .* not None"),
    "fisher: no model": (lambda: hgeo.fisher(3, mean_square), "model .* not 3"),
    # preconditioners
    "preconditioner: no state": (lambda: hgeo.preconditioner(PARAMS), "must hold one second mom"),
    "preconditioner: the optimizer": (lambda: hgeo.preconditioner(ADAM), "must hold one second"),
    "preconditioner: b2": (lambda: hgeo.preconditioner(state(), b2=1.5), r"\[0, 1\), not 1.5"),
    "preconditioner: eps": (lambda: hgeo.preconditioner(state(), eps=-1.0), "eps .* not -1.0"),
    "preconditioner: kind": (lambda: hgeo.preconditioner(state(), kind="adan"), "one of .* 'adan'"),
    "preconditioner: no params": (
        lambda: hgeo.preconditioner(state(), optimizer=ADAM), "must be given together"
    ),
    "preconditioner: before the first update": (
        lambda: hgeo.preconditioner(state(), b2=0.9), "before the first update"
    ),
    "preconditioned: another shape": (
        lambda: hgeo.preconditioned(mean_square, {"w": jnp.ones(6)})(PARAMS, BATCH),
        r"at 'w' it has \(6,\), and they have \(2, 3\)",
    ),
    "preconditioned: another structure": (
        lambda: hgeo.preconditioned(mean_square, {"v": jnp.ones(6)})(PARAMS, BATCH),
        "the diagonal must have the structure of the params",
    ),
    # statistics
    "r_med: text": (lambda: hgeo.r_med("x"), "r_med takes an array of numbers, not 'x'"),
    "r_med: nothing": (lambda: hgeo.r_med(None), "r_med takes an array of numbers, not None"),
    "r_med: no entries": (lambda: hgeo.r_med(jnp.zeros(0)), r"an array of shape \(0,\) has none"),
    "r_med: one number": (lambda: hgeo.r_med(jnp.array(1.0)), r"an array of shape \(\) has none"),
    "r_med: complex": (lambda: hgeo.r_med(jnp.array([1j])), "real entries, not .* complex"),
    "r_med: NaN alone": (lambda: hgeo.r_med(jnp.array([jnp.nan])), "not one of the 1 entries"),
    "r_med: eps": (lambda: hgeo.r_med(jnp.ones(3), eps=-1.0), "must not be negative, but is -1.0"),
    "r_med_spread: a seed": (lambda: hgeo.r_med_spread(jnp.ones(3), 0), "PRNG key .* not 0"),
    "r_med_spread: num": (lambda: hgeo.r_med_spread(jnp.ones(3), KEY, num=4), "1 to 3, .* not 4"),
    "r_diag: no entries": (lambda: hgeo.r_diag(jnp.zeros(0)), "has none"),
    "alignment: lengths": (
        lambda: hgeo.alignment(jnp.ones(3), jnp.ones(3), jnp.ones(4)), r"one shape \(K,\)"
    ),
    "low_rank: a vector": (lambda: hgeo.low_rank(jnp.ones(3)), r"a matrix .* shape \(3,\)"),
    "low_rank: integers": (lambda: hgeo.low_rank(jnp.ones((3, 3), jnp.int32)), "floating .* int32"),
    "low_rank: share": (lambda: hgeo.low_rank(jnp.ones((3, 3)), 2.0), r"lie in \(0, 1\], not 2.0"),
}  # fmt: skip


def diagonal(points=POINTS, **options):
    return hgeo.sampled_diagonal(mean_square, PARAMS, BATCH, points, **options)


def state():
    return ADAM.init(PARAMS)


@pytest.mark.parametrize("mistake", ARGUMENTS)
def test_arguments(mistake):
    call, message = ARGUMENTS[mistake]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_what_looks_like_a_mistake_and_is_none(tmp_path):
    own = monitor(workdir=tmp_path, every=np.int64(1))
    values = [own(step, PARAMS, batch) for step, batch in ((5, BATCH), (3, BATCH[:2]))]
    expected = [float(mean_square(PARAMS, batch)) for batch in (BATCH, BATCH[:2])]
    np.testing.assert_allclose([value["hgeo/loss"] for value in values], expected, rtol=1e-6)
    steps = [line.split(",")[2] for line in (tmp_path / "geometry.csv").read_text().split()[1:]]
    assert steps == sorted(steps), "steps that go back stand in their place"
    with pytest.warns(UserWarning, match=r"not finite: the loss \(nan\)"):
        own(6, PARAMS, BATCH * jnp.nan)
    with pytest.warns(UserWarning, match=r"so all of them are taken: w \(6\)"):
        assert hgeo.sample_coordinates(LAYERS, 300, KEY)["w"].indices.shape == (6,)
    half = {"w": PARAMS["w"].astype(jnp.float16)}
    with jax.numpy_dtype_promotion("standard"):
        found = hgeo.sampled_diagonal(mean_square, half, BATCH, POINTS)
    np.testing.assert_allclose(found["w"], diagonal()["w"], rtol=1e-3)
    scalar = hgeo.find_layers({"s": jnp.array(2.0)}, "s")
    found = hgeo.full_diagonal(lambda p, b: b * p["s"] ** 3, {"s": jnp.array(2.0)}, 1.0, scalar)
    np.testing.assert_allclose(found["s"], [12.0])
    independent = hgeo.sampled_diagonal(lambda p, b: jnp.mean(b), PARAMS, BATCH, POINTS)
    np.testing.assert_array_equal(independent["w"], 0.0)
