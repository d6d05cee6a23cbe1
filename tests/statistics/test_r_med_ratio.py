"""The ratio of two optimizers' R_med: its interval covers known values, and nothing is dropped."""

import jax
import numpy as np
import pytest
import scipy.stats

import hgeo

KEY = jax.random.key(3)
TRUTH = 0.4 * scipy.stats.norm.ppf(0.95)  # of log(q95/median), lognormal: (1 − 0.6) · z


def simulated(rng, repeats, size, spread):
    """Lognormal entries of two sides, whose repeats differ in the scale of the logarithms."""
    coordinates = rng.normal(size=size)
    scale = np.array([1.0, 0.6])[:, None, None] * (1 + spread * rng.normal(size=(2, repeats, 1)))
    return np.exp(scale * coordinates)


@pytest.mark.parametrize(
    ("repeats", "spread", "low", "high"),
    [(1, 0.0, 0.9, 0.99), (3, 0.3, 0.9, 0.99), (8, 0.1, 0.9, 0.99)],
)
def test_the_interval_covers_the_truth(repeats, spread, low, high):
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(100):
        sides = simulated(rng, repeats, 100, spread)
        found = hgeo.r_med_ratio(
            *sides, jax.random.key(seed), statistic="q95_over_median", num_draws=200
        )
        covered.append(found.low <= np.exp(TRUTH) <= found.high)
    assert low <= np.mean(covered) <= high


@pytest.mark.parametrize(
    ("statistic", "measure"),
    [("max_over_median", hgeo.r_med), ("q95_over_median", hgeo.q95_over_median)],
)
@pytest.mark.parametrize("size", [20, 41])
def test_the_ratio_is_that_of_the_geometric_means(statistic, measure, size):
    first, second = np.random.default_rng(1).normal(size=(2, 4, size)).astype(np.float32)
    found = hgeo.r_med_ratio(first, second, KEY, statistic=statistic, eps=0.1, num_draws=100)
    values = [np.asarray(measure(side, eps=0.1), np.float64) for side in (first, second)]
    means = [scipy.stats.gmean(value) for value in values]
    assert found.ratio == pytest.approx(means[0] / means[1], rel=1e-5)
    assert found.mean_ratio == pytest.approx(np.mean(values[0] / values[1]), rel=1e-5)
    assert found.covers == "repeats and coordinates"


def test_q95_over_median_is_that_of_numpy():
    entries = np.random.default_rng(2).normal(size=(3, 40)).astype(np.float32)
    high, median = np.quantile(np.abs(entries), [0.95, 0.5], axis=1)
    np.testing.assert_allclose(hgeo.q95_over_median(entries), high / median, rtol=1e-5)
    by_layer = hgeo.q95_over_median({"b": entries[0], "a": entries[1]}, eps=0.5)
    assert list(by_layer) == ["b", "a"]
    np.testing.assert_allclose(by_layer["a"], high[1] / (median[1] + 0.5), rtol=1e-5)
    assert hgeo.q95_over_median(np.arange(101)) == pytest.approx(1.9)
    assert np.isnan(hgeo.q95_over_median(np.zeros(2)))


def test_order_of_repeats_and_sides():
    first, second = simulated(np.random.default_rng(3), 5, 60, 0.2)
    found = hgeo.r_med_ratio(first, second, KEY, num_draws=300)
    order = [3, 0, 4, 1, 2]
    assert hgeo.r_med_ratio(first[order], second[order], KEY, num_draws=300) == found
    swapped = hgeo.r_med_ratio(second, first, KEY, num_draws=300)
    np.testing.assert_allclose(
        [1 / swapped.ratio, 1 / swapped.high, 1 / swapped.low, swapped.share_repeats],
        [found.ratio, found.low, found.high, found.share_repeats],
        rtol=1e-9,
    )
    assert found.low < found.ratio < found.high
    assert found.share_repeats + found.share_coordinates == pytest.approx(1.0)
    assert 0 < found.share_repeats < 1
    wide = hgeo.r_med_ratio(first, second, KEY, num_draws=300, level=0.99)
    assert wide.low < found.low < found.high < wide.high


def test_coordinates_are_paired_and_one_repeat_covers_them_alone():
    first, second = simulated(np.random.default_rng(4), 1, 60, 0.0)
    scaled = hgeo.r_med_ratio(7 * second, second, KEY, num_draws=100)
    np.testing.assert_allclose([scaled.ratio, scaled.low, scaled.high], 1.0, rtol=1e-12)
    one = hgeo.r_med_ratio(first, second, KEY, num_draws=100)
    assert one.covers == "coordinates"
    assert (one.share_repeats, one.share_coordinates) == (0.0, 1.0)
    assert one.low < one.high
    # Equal repeats at the same drawn coordinates add nothing.
    same = hgeo.r_med_ratio(first.repeat(4, 0), second.repeat(4, 0), KEY, num_draws=100)
    np.testing.assert_allclose([same.low, same.high], [one.low, one.high], rtol=1e-9)
    assert same.share_repeats == pytest.approx(0.0, abs=1e-12)


def test_the_repeats_share_is_that_of_their_mean():
    sides = simulated(np.random.default_rng(6), 4, 60, 0.2)
    odds = []
    for copies in (1, 2):  # the same draws of coordinates, and the same means
        found = hgeo.r_med_ratio(*sides.repeat(copies, axis=1), KEY, num_draws=100)
        odds.append(found.share_repeats / found.share_coordinates)
    assert odds[1] / odds[0] == pytest.approx((6 / 7 / 8) / (1 / 4))


def test_dead_layers_are_counted_and_remain():
    rng = np.random.default_rng(5)
    first, second = simulated(rng, 3, 40, 0.1)
    dead = first.copy()
    dead[1, :30] = 0.0
    found = hgeo.r_med_ratio({"b": dead, "a": first}, {"a": second, "b": second}, KEY)
    assert list(found) == ["b", "a"]
    assert (found["b"].ratio, found["b"].mean_ratio) == (np.inf, np.inf)
    assert (found["b"].num_infinite, found["b"].num_nan) == (1, 0)
    assert (found["b"].low, found["b"].high) == (0.0, np.inf)
    assert found["b"].num_draws_undefined == 2000
    assert np.isnan(found["b"].share_repeats)
    assert found["a"].num_draws_undefined == found["a"].num_infinite == 0
    nowhere = hgeo.r_med_ratio(np.where(dead == 0, np.nan, dead), second, KEY, num_draws=100)
    assert np.isnan(nowhere.ratio)
    assert (nowhere.num_infinite, nowhere.num_nan) == (0, 1)
    one = hgeo.r_med_ratio(dead[1:2], second[:1], KEY, num_draws=100)
    assert (one.ratio, one.high) == (np.inf, np.inf)
    # Nearly dead: the ratio is finite, and some draws have a median of zero in the first side.
    dead[1] = np.where(np.arange(40) < 18, 0.0, first[1])
    nearly = hgeo.r_med_ratio(dead[1:2], second[:1], KEY, num_draws=400)
    assert np.isfinite([nearly.ratio, nearly.low]).all()
    assert nearly.high == np.inf


ONES = np.ones((2, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hgeo.r_med_ratio(ONES, ONES[:1], KEY), ValueError, r"\[\(2, 5\), \(1, 5\)\]"),
        (lambda: hgeo.r_med_ratio(ONES[0], ONES[0], KEY), ValueError, r"shape \(repeats, K\)"),
        (lambda: hgeo.r_med_ratio({"a": ONES}, {"b": ONES}, KEY), ValueError, "same layers, not"),
        (lambda: hgeo.r_med_ratio({"a": ONES}, ONES, KEY), ValueError, "same layers, not"),
        (lambda: hgeo.r_med_ratio(ONES, ONES, KEY, statistic="max"), ValueError, "not 'max'"),
        (lambda: hgeo.r_med_ratio(ONES, ONES, KEY, level=95), ValueError, r"\(0, 1\), not 95"),
        (lambda: hgeo.r_med_ratio(ONES, ONES, KEY, eps=-1.0), ValueError, "eps .* is -1"),
        (lambda: hgeo.r_med_ratio(ONES, ONES, KEY, num_draws=9), ValueError, "100, not 9"),
        (lambda: hgeo.r_med_ratio(ONES, ONES, 3), TypeError, "PRNG key"),
        (lambda: hgeo.r_med_ratio(ONES, np.nan * ONES, KEY), ValueError, "not one of the 10"),
        (lambda: hgeo.q95_over_median(np.zeros(0)), ValueError, "q95_over_median .* has none"),
        (lambda: hgeo.q95_over_median(np.ones(3), eps=-1.0), ValueError, "eps .* is -1"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
