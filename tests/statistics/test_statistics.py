"""Statistics against plain NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import hgeo

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [1, 2, 7, 200])
def test_r_med_is_the_largest_over_the_median(size):
    entries = RNG.normal(size=(3, size)).astype(np.float32)
    magnitude = np.abs(entries)
    expected = magnitude.max(1) / np.median(magnitude, 1)
    np.testing.assert_allclose(hgeo.r_med(entries), expected, rtol=1e-6)
    by_layer = hgeo.r_med({"b": entries[0], "a": entries[1]}, eps=0.5)
    assert list(by_layer) == ["b", "a"]
    expected = magnitude[1].max() / (np.median(magnitude[1]) + 0.5)
    np.testing.assert_allclose(by_layer["a"], expected, rtol=1e-6)


def test_r_med_drops_nothing():
    assert np.isposinf(hgeo.r_med(jnp.array([0.0, 0.0, 1.0])))
    assert np.isnan(hgeo.r_med(jnp.array([0.0, 0.0])))
    assert np.isnan(hgeo.r_med(jnp.array([1.0, np.nan, 2.0])))
    assert np.isposinf(hgeo.r_med(jnp.array([1.0, np.inf, 2.0])))


def test_the_middle_of_two_large_entries_does_not_overflow():
    assert float(hgeo.r_med(jnp.array([1.0, 6e4, 6e4, 6e4], jnp.float16))) == 1.0
    assert float(hgeo.r_med(jnp.array([3e38, 3e38], jnp.float32))) == 1.0
    assert hgeo.r_med(jnp.array([1.0, 2.0], jnp.float16)).dtype == jnp.float16


@pytest.mark.parametrize("size", [60, 101, 141])
def test_quantiles_among_infinite_entries_are_infinite(size):
    """Interpolated, they are inf - inf; exactly at an entry, 0 times its infinite neighbour."""
    magnitude = np.arange(1.0, 1.0 + size)
    for num in range(1, 12):
        entries = np.where(np.arange(size) < size - num, magnitude, np.inf)
        found = float(hgeo.q95_over_median(jnp.asarray(entries, jnp.float32)))
        last = round(0.95 * (size - 1), 9)
        if np.ceil(last) < size - num:
            expected = np.quantile(magnitude, 0.95) / np.median(magnitude)
            np.testing.assert_allclose(found, expected, rtol=1e-6)
        else:
            assert np.isposinf(found)
        if num in (1, 11):
            drawn = hgeo.r_med_ratio(
                entries[None], magnitude[None], jax.random.key(0), statistic="q95_over_median"
            )
            assert (drawn.num_infinite, drawn.num_nan) == (int(np.isinf(found)), 0)


@pytest.mark.parametrize("num_draws", [100, 101, 201])
def test_the_spread_of_infinite_draws_is_infinite(num_draws):
    entries = jnp.ones(40).at[0].set(jnp.inf)
    spread = hgeo.r_med_spread(entries, jax.random.key(0), num=20, num_draws=num_draws)
    assert np.isposinf(spread.high)


def test_the_spread_is_that_of_random_subsets():
    entries = jnp.asarray(RNG.pareto(2.0, size=60).astype(np.float32))
    found = hgeo.r_med_spread(entries, jax.random.key(0), num=20, num_draws=4000)
    drawn = [RNG.choice(np.asarray(entries), 20, replace=False) for _ in range(4000)]
    expected = np.quantile([d.max() / np.median(d) for d in drawn], [0.05, 0.5, 0.95])
    np.testing.assert_allclose([found.low, found.median, found.high], expected, rtol=0.08)
    again = hgeo.r_med_spread({"x": entries}, jax.random.key(0), num=20, num_draws=4000)["x"]
    np.testing.assert_array_equal(again.draws, found.draws)
    paired = hgeo.r_med_spread(2.0 * entries, jax.random.key(0), num=20, num_draws=4000)
    np.testing.assert_allclose(paired.draws, found.draws, rtol=1e-6)  # the same subsets
    whole = hgeo.r_med_spread(entries, jax.random.key(0), num=60, num_draws=2)
    np.testing.assert_allclose(whole.draws, hgeo.r_med(entries), rtol=1e-6)


def test_r_diag_is_mean_and_median():
    rows = {"a": jnp.array([1.0, 2.0, 6.0, 3.0])}
    assert tuple(map(float, hgeo.r_diag(rows)["a"])) == (3.0, 2.5)


@pytest.mark.parametrize("seed", range(3))
def test_alignment_is_spearmans_with_ties(seed):
    rng = np.random.default_rng(seed)
    diagonal = rng.normal(size=50).astype(np.float32)
    gradient = rng.integers(-4, 5, size=50).astype(np.float32)
    adaptive = (np.abs(diagonal) + 0.3 * rng.normal(size=50)).astype(np.float32)
    found = jax.jit(hgeo.alignment)(diagonal, gradient, adaptive)
    for rho, values in ((found.rho_gradient, gradient), (found.rho_adaptive, adaptive)):
        expected = scipy.stats.spearmanr(np.abs(diagonal), np.abs(values)).statistic
        np.testing.assert_allclose(rho, expected, rtol=1e-5)
    order = np.argsort(np.abs(diagonal))
    np.testing.assert_array_equal(found.curvature, np.abs(diagonal)[order])
    np.testing.assert_array_equal(found.adaptive_gradient, np.abs(adaptive)[order])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_alignment_in_half_precision_ranks_in_full(dtype):
    entries = jnp.arange(1.0, 201.0).astype(dtype)
    found = hgeo.alignment(entries, entries, -entries[::-1])
    np.testing.assert_allclose(found.rho_gradient, 1.0, rtol=1e-5)
    np.testing.assert_allclose(found.rho_adaptive, -1.0, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 200, 1000, 100_001])
def test_alignment_with_a_constant_is_nan(size):
    found = hgeo.alignment(jnp.arange(size * 1.0), jnp.ones(size), jnp.arange(size * 1.0))
    assert np.isnan(found.rho_gradient)
    np.testing.assert_allclose(found.rho_adaptive, 1.0, rtol=1e-5)


def test_alignment_of_a_nan_is_nan():
    found = hgeo.alignment(jnp.array([1.0, np.nan, 3.0]), jnp.arange(3.0), jnp.arange(3.0))
    assert np.isnan(found.rho_gradient)
    assert np.isnan(found.rho_adaptive)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_low_rank_follows_its_definition(share, shape):
    weight = RNG.normal(size=shape).astype(np.float32)
    left, values, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    held = np.cumsum(values**2) / np.sum(values**2)
    rank = next(k + 1 for k in range(5) if held[k] >= share - 1e-12)
    found = jax.jit(hgeo.low_rank, static_argnums=1)(weight, share)
    assert found.rank == rank
    np.testing.assert_allclose(found.singular_values, values, rtol=1e-5)
    for r, vectors in ((found.r_u, left), (found.r_v, right.T)):
        mixed = (vectors[:, :rank] ** 2) @ values[:rank] ** 2
        np.testing.assert_allclose(r, mixed.max() / np.median(mixed), rtol=1e-4)


def test_the_share_is_one_of_the_squared_norm():
    weight = jnp.diag(jnp.array([3.0, 2.0, 2.0]))
    assert [int(hgeo.low_rank(weight, share).rank) for share in (0.5, 0.6, 0.8)] == [1, 2, 3]


def test_low_rank_of_a_flax_kernel_is_that_of_its_transpose():
    kernel = np.outer([1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 5.0]).astype(np.float32)  # (in, out)
    found = hgeo.low_rank(kernel.T)
    np.testing.assert_allclose(found.r_u, 25.0, rtol=1e-4)  # outputs: 5² over 1²
    np.testing.assert_allclose(found.r_v, 9.0 / 4.0, rtol=1e-4)


def test_low_rank_of_a_matrix_with_a_nan_is_nan():
    found = hgeo.low_rank(jnp.ones((4, 3)).at[1, 2].set(jnp.nan))
    assert np.isnan([found.r_u, found.r_v, *found.singular_values]).all()


NAN = jnp.full(3, jnp.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hgeo.r_med(jnp.zeros(0)), "has none"),
        (lambda: hgeo.r_med(jnp.float32(1.0)), "has none"),
        (lambda: hgeo.r_med(NAN), "r_med needs a finite entry; not one of the 3 entries is"),
        (lambda: hgeo.r_med(jnp.ones(3), eps=-1.0), "eps must not be negative, but is -1"),
        (lambda: hgeo.r_med_spread(NAN, jax.random.key(0)), "not one of the 3"),
        (lambda: hgeo.r_med_spread(jnp.ones(3), jax.random.key(0), num=4), "1 to 3, .* not 4"),
        (
            lambda: hgeo.r_med_spread(jnp.ones(3), jax.random.key(0), num_draws=1),
            "num_draws must be at least 2, not 1",
        ),
        (lambda: hgeo.r_med_spread(jnp.ones((2, 3)), jax.random.key(0)), r"shape \(K,\)"),
        (lambda: hgeo.r_diag(NAN), "r_diag needs .* not one of the 3"),
        (lambda: hgeo.alignment(NAN, jnp.ones(3), jnp.ones(3)), "alignment needs .* of the 3"),
        (lambda: hgeo.alignment(jnp.ones(3), jnp.ones(2), jnp.ones(3)), r"\[\(3,\), \(2,\)"),
        (lambda: hgeo.alignment(*[jnp.ones(1)] * 3), "K of at least 2"),
        (lambda: hgeo.low_rank(jnp.ones((2, 2)), 0.0), r"share must lie in \(0, 1\], not 0"),
        (lambda: hgeo.low_rank(jnp.ones((2, 2)), 1.5), r"share must lie in \(0, 1\], not 1.5"),
        (lambda: hgeo.low_rank(jnp.ones(3)), r"takes a matrix .* not an array of shape \(3,\)"),
        (lambda: hgeo.low_rank(NAN[None]), "low_rank needs .* not one of the 3"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_entries_that_are_not_finite_give_nan():
    assert np.isnan(jax.jit(hgeo.r_med)(NAN))
