"""Full diagonals against dense Hessians, and the proof of independence behind method units."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.probes.per_unit import diagonals as unit_diagonals
from tests.probes.dense import (
    dense_hessian,
    diagonals,
    error,
    joint_hessian,
    quick,
    slow,
    spans,
    wide_case,
)
from tests.probes.families import FAMILIES

QUICKER = ("tied_autoencoder", "scanned_stack", "weight_norm")
SLOW = [family for family in FAMILIES if family not in QUICKER]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def check(losses, params, batch, layers, **options):
    """Compares the full diagonals of several losses with dense Hessians, in one program."""

    def both(loss, params, batch):
        dense = jnp.diagonal(joint_hessian(loss, params, batch, layers))
        return hgeo.full_diagonal(loss, params, batch, layers, **options), dense

    program = lambda p, b: {name: both(loss, p, b) for name, loss in losses.items()}
    for case, (found, dense) in quick(program)(params, batch).items():
        assert list(found) == list(layers)
        for name, span in spans(layers).items():
            assert found[name].shape == dense[span].shape
            assert error(found[name], dense[span]) < 1e-10, (case, name)


def check_family(family, seeds, layers, **options):
    """The same for a family of models, compiled once for several seeds."""
    loss = wide_case(family).loss
    probe = quick(lambda p, b: hgeo.full_diagonal(loss, p, b, layers, **options))
    for seed in seeds:
        given = wide_case(family, seed)
        found, truth = probe(given.params, given.batch), diagonals(family, seed)
        assert list(found) == list(layers)
        for name, layer in layers.items():
            assert found[name].shape == (layer.size,)
            assert error(found[name], truth[name]) < 1e-10, name


@pytest.mark.parametrize("family", slow(FAMILIES, SLOW))
def test_equals_the_dense_hessian(family):
    check_family(family, (0, 1), wide_case(family).layers)


@pytest.fixture(params=slow(["bottleneck", "units"], ["units"]))
def through(request, monkeypatch):
    """Where units apply to a layer, by a bottleneck behind it or by its products."""
    price = (lambda *_: 0.0) if request.param == "bottleneck" else (lambda *_: float("inf"))
    monkeypatch.setattr(unit_diagonals, "bottleneck_operations", price)
    return request.param


@pytest.mark.parametrize("family", slow(["gelu_mlp", "encoder_block", "bert_block"], FAMILIES))
def test_units_and_bottlenecks_equal_the_dense_hessian(family, through):
    case = wide_case(family, 2)
    costs = hgeo.full_diagonal_cost(case.loss, case.params, case.batch, case.layers)
    layers = {
        name: layer
        for name, layer in case.layers.items()
        if "do not apply" not in costs[name].reason
    }
    assert len(layers) >= min(3, len(case.layers))
    check_family(family, (2,), layers, method="units", chunk_size=3)


def test_positions_that_depend_on_each_other(through):
    """Two layers before attention and one behind it, each with its number of products."""
    case = wide_case("attention")
    costs = hgeo.full_diagonal_cost(case.loss, case.params, case.batch, case.layers, method="units")
    sweeps = [cost.sweeps for cost in costs.values()]
    assert sweeps == ([2 * 3, 2 * 3, 3] if through == "bottleneck" else [5 * 3, 2 * 3, 3])
    check_family("attention", (0, 1), case.layers, method="units", chunk_size=2)


def _net(mix):
    """A network with one probed matrix, whose examples are mixed by `mix`."""

    def loss(params, batch):
        hidden = jnp.tanh(batch["x"] @ params["w"])
        return mix(hidden, params, batch)

    return loss


def _batch_norm(hidden, params, batch):
    centred = hidden - jnp.mean(hidden, axis=0, keepdims=True)
    scale = jnp.sqrt(jnp.mean(centred**2, axis=0, keepdims=True) + 1e-3)
    return jnp.mean(jnp.sin(centred / scale))


def _contrastive(hidden, params, batch):
    similar = hidden @ hidden.T
    return jnp.mean(jax.nn.logsumexp(similar, axis=-1) - jnp.diagonal(similar))


def _largest_of_examples(hidden, params, batch):
    return jnp.sum(jnp.exp(jnp.max(hidden, axis=0))) + jnp.sum(hidden**3)


MIXING = {
    "batch normalisation": _batch_norm,
    "root of a mean": lambda h, p, b: jnp.sqrt(jnp.mean((h - b["y"]) ** 2)),
    "logarithm of a mean": lambda h, p, b: jnp.log(jnp.mean(jnp.exp(h))),
    "contrastive": _contrastive,
    "roll": lambda h, p, b: jnp.mean(h * jnp.roll(h, 1, axis=0) ** 2),
    "running sum": lambda h, p, b: jnp.mean(jnp.cumsum(h, axis=0) ** 3),
    "reversed": lambda h, p, b: jnp.mean(jnp.exp(h * h[::-1])),
    "centred": lambda h, p, b: jnp.mean((h - jnp.mean(h, axis=0, keepdims=True)) ** 4),
    "sorted": lambda h, p, b: jnp.mean(jnp.sort(h, axis=0) * jnp.square(h)),
    "largest": _largest_of_examples,
    "halves": lambda h, p, b: jnp.mean((h[:3] * h[3:]) ** 2),
    "picked": lambda h, p, b: jnp.mean(jnp.exp(h[jnp.array([1, 0, 3, 2, 5, 4])] * h)),
    "reshaped": lambda h, p, b: jnp.mean(jnp.exp(jnp.sum(h.reshape(3, 8), axis=1))),
    "product": lambda h, p, b: jnp.prod(1.0 + 0.1 * jnp.sum(h, axis=1)),
}

REPEATED = {
    "penalty": lambda h, p, b: jnp.mean(h**2) + 0.1 * jnp.sum(p["w"] ** 4),
    "tied": lambda h, p, b: jnp.mean((h @ p["w"].T - b["x"]) ** 2),
    "recurrent": lambda h, p, b: jnp.mean(jnp.tanh(h[:, :3] @ p["w"]) ** 2),
}

APART = {
    "mean": lambda h, p, b: jnp.mean((h - b["y"]) ** 2),
    "softmax": lambda h, p, b: -jnp.mean(jnp.sum(jax.nn.log_softmax(h) * b["y"], axis=-1)),
    "flattened": lambda h, p, b: jnp.mean(jnp.exp(h.reshape(-1))),
    "vmapped": lambda h, p, b: jnp.mean(jax.vmap(lambda row: jnp.prod(1 + row))(h)),
    "linear after the sum": lambda h, p, b: 3.0 * jnp.sum(jnp.sum(h**3, axis=0) / 6.0) - 1.0,
    "checkpointed": lambda h, p, b: jnp.mean(jax.checkpoint(lambda h: jnp.exp(h) ** 2)(h)),
    "transposed": lambda h, p, b: jnp.mean(jnp.cumsum(h.T, axis=0) ** 3),
    "gated": lambda h, p, b: jnp.mean(jax.nn.gelu(h) * jnp.where(h > 0, h, 0.1 * h)),
}


def _drawn():
    draw = lambda k, *shape: jax.random.normal(jax.random.key(k), shape, jnp.float64)
    params, batch = {"w": draw(0, 3, 4)}, {"x": draw(1, 6, 3), "y": draw(2, 6, 4)}
    return params, batch, hgeo.find_layers(params)


def _case(mix):
    return _net(mix), *_drawn()


@pytest.mark.parametrize("kind", slow(["mixing", "apart"], ["mixing"]))
def test_is_right_whatever_the_examples_do(kind):
    kinds = MIXING if kind == "mixing" else APART
    check({name: _net(mix) for name, mix in kinds.items()}, *_drawn(), method="units")


def test_a_matrix_that_enters_more_than_once_is_taken_by_coordinates():
    for mix in REPEATED.values():
        with pytest.raises(ValueError, match=r"not apply to layer 'w': it enters the loss"):
            hgeo.full_diagonal(*_case(mix), method="units")
    check({name: _net(mix) for name, mix in REPEATED.items()}, *_drawn())


# A real weight behind complex activations, and before them.
COMPLEX = {
    "real part": lambda z: jnp.mean(z.real**2),
    "modulus": lambda z: jnp.mean(jnp.abs(z) ** 4),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_activations(name):
    x = jax.random.normal(jax.random.key(0), (2, 6))
    params = {"w": jax.random.normal(jax.random.key(1), (4, 3))}
    layers = hgeo.find_layers(params)
    behind = lambda params, x: COMPLEX[name](jnp.fft.rfft(x) @ params["w"].astype(complex))
    before = lambda params, x: COMPLEX[name](jnp.fft.rfft(x[:, :4] @ params["w"]))
    with pytest.raises(ValueError, match="layer 'w': its product is complex"):
        hgeo.full_diagonal(behind, params, x, layers, method="units")
    check({"behind": behind}, params, x, layers)
    check({"before": before}, params, x, layers, method="units")
    dense = jnp.diagonal(dense_hessian(behind, params, x, layers["w"]))
    found = hgeo.stochastic_diagonal(behind, params, x, layers, jax.random.key(2), 1000)["w"]
    assert np.all(np.abs(found.mean - dense) < 5 * found.standard_error + 1e-12)


@pytest.mark.parametrize("name", slow(MIXING, [*MIXING][6:]))
def test_examples_that_mix_are_not_taken_for_independent(name):
    cost = hgeo.full_diagonal_cost(*_case(MIXING[name]), method="units")["w"]
    assert cost.sweeps % 6 == 0  # products for each of the six examples


@pytest.mark.parametrize("name", slow(APART, [*APART][4:]))
def test_independent_examples_share_products(name):
    cost = hgeo.full_diagonal_cost(*_case(APART[name]), method="units")["w"]
    assert cost.sweeps <= 4


@pytest.mark.parametrize("method", ["units", "coordinates"])
def test_microbatches_weights_and_devices_add_up(method):
    params, batch, layers = _drawn()
    batch = jax.tree.map(lambda x: x[:4], batch)
    one = _net(APART["softmax"])

    def loss(params, batch):
        weight = jnp.sum(batch["x"] ** 2)
        return hgeo.Weighted(one(params, batch) * weight, weight)

    def by_example(params, batch):
        total, weight = jax.vmap(lambda x: loss(params, jax.tree.map(lambda x: x[None], x)))(batch)
        return hgeo.Weighted(jnp.sum(total), jnp.sum(weight))

    probe = functools.partial(hgeo.full_diagonal, loss, layers=layers, method=method)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    on_devices = jax.shard_map(
        lambda p, b: probe(p, b, axis_name="data"),
        mesh=mesh,
        in_specs=(spec(), spec("data")),
        out_specs=spec(),
    )
    expected = jnp.diagonal(dense_hessian(by_example, params, batch, layers["w"]))
    for way in (lambda p, b: probe(p, b, microbatch_size=1), on_devices):
        assert error(quick(way)(params, batch)["w"], expected) < 1e-10


def test_takes_other_curvature():
    case = wide_case("gelu_mlp")
    model = lambda params, batch: jnp.tanh(batch["x"] @ params["w1"]) @ params["w2"]
    head = lambda outputs, batch: jnp.mean(jax.nn.logsumexp(outputs, axis=-1))
    layers = hgeo.find_layers(case.params, ["w1", "w2"])
    loss = hgeo.gauss_newton(model, head)
    costs = hgeo.full_diagonal_cost(loss, case.params, case.batch, layers, method="units")
    assert all(cost.method == "units" for cost in costs.values())
    check({"gauss_newton": loss}, case.params, case.batch, layers, method="units")


def test_a_cost_above_the_bound_is_said_with_the_way_out():
    loss, params, batch, layers = _case(APART["mean"])
    with pytest.raises(ValueError, match=r"more than max_gradients=0; raise max_gradients"):
        hgeo.full_diagonal(loss, params, batch, layers, max_gradients=0.1)


@pytest.mark.parametrize("method", ["units", "coordinates"])
def test_progress_tells_what_is_done(method):
    loss, params, batch, layers = _case(APART["mean"])
    told = []
    found = jax.jit(
        lambda params, batch: hgeo.full_diagonal(
            loss,
            params,
            batch,
            layers,
            method=method,
            chunk_size=2,
            progress=lambda *values: told.append(values),
        )
    )(params, batch)
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert all(name == "w" and total == 12 for name, _, total in told)
    assert max(done for _, done, _ in told) == 12
    plain = hgeo.full_diagonal(loss, params, batch, layers, method=method)
    np.testing.assert_allclose(found["w"], plain["w"], rtol=1e-12)


def test_bad_arguments():
    loss, params, batch, layers = _case(APART["mean"])
    with pytest.raises(ValueError, match=r"method must be one of .*, not 'magic'"):
        hgeo.full_diagonal(loss, params, batch, layers, method="magic")
    with pytest.raises(ValueError, match="no layers were given"):
        hgeo.full_diagonal(loss, params, batch, {})
