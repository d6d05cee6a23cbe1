"""Stochastic diagonals are unbiased, and their standard errors are right."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from tests.probes.dense import hessian, joint_hessian, quick, wide_case

# By units in every layer, in some, and in none.
SOME = (
    "attention",
    "encoder_block",
    "convolution",
    "recurrence",
    "scanned_stack",
    "tied_autoencoder",
)
QUICKER = [("attention", "hutchinson"), ("attention", "xdiag"), ("recurrence", "hutchinson")]
CASES = [
    pytest.param(*case, marks=[] if case in QUICKER else pytest.mark.slow)
    for case in itertools.product(SOME, ("hutchinson", "xdiag"))
]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def estimates(case, num_samples, num_keys, **options):
    """Means and standard errors of several independent estimates: (keys, weights)."""

    def one(key):
        found = hgeo.stochastic_diagonal(
            case.loss, case.params, case.batch, case.layers, key, num_samples, **options
        )
        assert list(found) == list(case.layers)
        whole = lambda part: jnp.concatenate([getattr(own, part) for own in found.values()])
        return whole("mean"), whole("standard_error")

    run = quick(lambda keys: jax.lax.map(one, keys))
    return map(np.asarray, run(jax.random.split(jax.random.key(7), num_keys)))


@pytest.mark.parametrize(("family", "method"), CASES)
def test_is_unbiased_and_its_error_honest(family, method):
    case, truth = wide_case(family), np.diagonal(hessian(family))
    num_keys = 150
    means, errors = estimates(case, 8, num_keys, method=method)
    noise = np.std(means, axis=0, ddof=1)
    known = noise > 1e-9 * np.max(np.abs(truth))
    assert known.mean() > 0.5
    np.testing.assert_allclose(means[:, ~known].mean(0), truth[~known], atol=1e-8)
    # The mean over all keys, in its own standard errors: a normal number for each weight.
    bias = ((np.mean(means, axis=0) - truth) * num_keys**0.5 / noise)[known]
    assert np.max(np.abs(bias)) < 5
    assert np.mean(bias**2) < 2.5  # entries are correlated: their mean square scatters
    within = np.mean((np.abs(means - truth) < 2 * errors)[:, known])
    # 91.4% for normal numbers and eight samples.
    assert 0.84 < within < 0.97
    size = np.sqrt(np.mean(errors**2, axis=0))[known] / noise[known]
    assert 0.75 < np.median(size) < 1.3


def test_signs_for_each_example_make_less_noise():
    case = wide_case("attention")
    big = jax.tree.map(lambda x: jnp.concatenate([jnp.roll(x, k, 0) for k in range(4)]), case.batch)
    by_unit = case._replace(batch=big)
    # A penalty of zero makes every weight enter twice, so signs are drawn for weights.
    plain = lambda p, b: case.loss(p, b) + 0.0 * sum(jnp.sum(x**2) for x in jax.tree.leaves(p))
    errors = [
        np.mean(list(estimates(c, 16, 4))[1] ** 2) for c in (by_unit, by_unit._replace(loss=plain))
    ]
    assert errors[0] < 0.6 * errors[1]


@pytest.mark.slow
def test_pieces_and_devices_draw_signs_of_their_own():
    """Four equal examples have different signs; with equal signs their noise would not average."""
    case = wide_case("attention")
    one = case._replace(batch=jax.tree.map(lambda x: x[:1], case.batch))
    case = case._replace(batch=jax.tree.map(lambda x: jnp.concatenate([x[:1]] * 4), case.batch))
    dense = quick(lambda p, b: joint_hessian(case.loss, p, b, case.layers))
    truth = np.diagonal(dense(one.params, one.batch))
    alone, _ = estimates(one, 8, 100)
    means, errors = estimates(case, 8, 100, microbatch_size=1)
    assert np.all(errors >= 0)

    spec = jax.sharding.PartitionSpec
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    each = lambda params, batch, key: [
        own.mean
        for own in hgeo.stochastic_diagonal(
            case.loss, params, batch, case.layers, key, 8, axis_name="data"
        ).values()
    ]
    program = quick(
        jax.shard_map(each, mesh=mesh, in_specs=(spec(), spec("data"), spec()), out_specs=spec())
    )
    drawn = [
        jnp.concatenate(program(case.params, case.batch, key))
        for key in jax.random.split(jax.random.key(3), 60)
    ]
    for found in (means, np.stack(drawn)):
        noise = np.std(found, axis=0, ddof=1)
        bias = (np.mean(found, axis=0) - truth) * len(found) ** 0.5 / noise
        assert np.max(np.abs(bias)) < 5
        # The mean of four has half the noise of one.
        assert 0.4 < np.median(noise / np.std(alone, axis=0, ddof=1)) < 0.6


def test_bad_arguments():
    case = wide_case("linear_net")
    call = lambda layers, num, **options: hgeo.stochastic_diagonal(
        case.loss, case.params, case.batch, layers, jax.random.key(0), num, **options
    )
    with pytest.raises(ValueError, match=r"num_samples must be at least 2 .* not 1"):
        call(case.layers, 1)
    with pytest.raises(ValueError, match=r"method must be one of .* not 'guess'"):
        call(case.layers, 2, method="guess")
    with pytest.raises(ValueError, match=r"num_samples of at most 52, .* not"):
        call(case.layers, 53, method="xdiag")
    with pytest.raises(ValueError, match="no layers were given"):
        call({}, 2)
