"""Faults in the statistics."""

from tests.mutants.mutant import Mutant

TESTS = ("tests/statistics",)
UNIFORMITY, ALIGNMENT = "hgeo/statistics/r_med.py", "hgeo/statistics/alignment.py"
LOW_RANK = "hgeo/statistics/low_rank.py"
RATIO = "hgeo/statistics/r_med_ratio.py"
R_MED = "return jnp.max(magnitude, axis=-1) / (jnp.median(magnitude, axis=-1) + eps)"

MUTANTS = (
    Mutant(
        "signed_median",
        "R_med divides by the median of signed entries",
        UNIFORMITY,
        R_MED,
        R_MED.replace("jnp.median(magnitude", "jnp.median(entries"),
        TESTS,
    ),
    Mutant(
        "lower_median",
        "the median of an even number of entries is the lower of the middle two",
        UNIFORMITY,
        R_MED,
        R_MED.replace(
            "jnp.median(magnitude, axis=-1)",
            'jnp.quantile(magnitude, 0.5, axis=-1, method="lower")',
        ),
        TESTS,
    ),
    Mutant(
        "eps_outside",
        "R_med adds eps to the ratio and not to the median",
        UNIFORMITY,
        R_MED,
        R_MED.replace("(jnp.median(magnitude, axis=-1) + eps)", "jnp.median(magnitude, axis=-1)")
        + " + eps",
        TESTS,
    ),
    Mutant(
        "spread_with_replacement",
        "the subsets of the spread are drawn with replacement",
        UNIFORMITY,
        "return r_med(entries[jax.random.permutation(key, size)[:num]], eps)",
        "return r_med(entries[jax.random.randint(key, (num,), 0, size)], eps)",
        TESTS,
    ),
    Mutant(
        "correlation_of_values",
        "Spearman's correlation is that of the values and not of their ranks",
        ALIGNMENT,
        "ranks = [_ranks(array) for array in (first, second)]",
        "ranks = [array for array in (first, second)]",
        TESTS,
    ),
    Mutant(
        "ties_at_the_lowest_rank",
        "ties have their lowest rank and not their mean rank",
        ALIGNMENT,
        'for side in ("left", "right"))',
        'for side in ("left", "left"))',
        TESTS,
    ),
    Mutant(
        "aligned_by_gradient",
        "alignment sorts the coordinates by gradient and not by curvature",
        ALIGNMENT,
        "order = jnp.argsort(arrays[0])",
        "order = jnp.argsort(arrays[1])",
        TESTS,
    ),
    Mutant(
        "share_of_the_norm",
        "the rank holds a share of the sum of singular values and not of their squares",
        LOW_RANK,
        "held = jnp.cumsum(squares) / jnp.sum(squares)",
        "held = jnp.cumsum(values) / jnp.sum(values)",
        TESTS,
    ),
    Mutant(
        "left_and_right_swapped",
        "R_u is that of the right singular vectors, R_v that of the left ones",
        LOW_RANK,
        "in (left**2 @ kept, kept @ right**2)",
        "in (kept @ right**2, left**2 @ kept)",
        TESTS,
    ),
    Mutant(
        "mean_and_median_swapped",
        "the mean of R_diag is its median and the other way round",
        "hgeo/statistics/r_diag.py",
        "return RDiag(jnp.mean(values, axis=-1), jnp.median(values, axis=-1))",
        "return RDiag(jnp.median(values, axis=-1), jnp.mean(values, axis=-1))",
        TESTS,
    ),
    Mutant(
        "highest_over_median",
        "q95_over_median is the maximum over the median",
        UNIFORMITY,
        "high = jnp.quantile(magnitude, 0.95, axis=-1)",
        "high = jnp.max(magnitude, axis=-1)",
        TESTS,
    ),
    Mutant(
        "mean_of_ratios",
        "the ratio is the mean of the repeats' ratios, which is biased upwards",
        RATIO,
        "ratio=float(np.exp(np.mean(logs))),",
        "ratio=float(np.mean(np.exp(logs))),",
        TESTS,
    ),
    Mutant(
        "few_repeats_not_enlarged",
        "the interval of few repeats is as short as the plain bootstrap makes it",
        RATIO,
        "return math.sqrt(num / (num - 1)) * float(stdtrit(num - 1, upper) / ndtri(upper))",
        "return 1.0",
        TESTS,
    ),
    Mutant(
        "coordinates_not_resampled",
        "the interval covers the repeats alone",
        RATIO,
        "np.asarray(jax.random.randint(of_coordinates, (num_draws, size), 0, size))",
        "np.tile(np.arange(size), (num_draws, 1))",
        TESTS,
    ),
    Mutant(
        "repeats_not_resampled",
        "the interval covers the coordinates alone",
        RATIO,
        "np.asarray(jax.random.randint(of_repeats, (num_draws, num), 0, num))",
        "np.tile(np.arange(num), (num_draws, 1))",
        TESTS,
    ),
    Mutant(
        "sides_drawn_apart",
        "the two sides have coordinates of their own in each draw",
        RATIO,
        "return logs[:, 0] - logs[:, 1]",
        "return logs[:, 0] - np.roll(logs[:, 1], 1, axis=0)",
        TESTS,
    ),
    Mutant(
        "undefined_draws_dropped",
        "draws in which the ratio is undefined leave the interval",
        RATIO,
        "undefined = np.isnan(draws)",
        "draws = draws[~np.isnan(draws)]; undefined = np.isnan(draws)",
        TESTS,
    ),
    Mutant(
        "variance_of_one_repeat",
        "the repeats' share is that of a single repeat's variance",
        RATIO,
        "by_repeats = np.var(logs, ddof=1) / num if",
        "by_repeats = np.var(logs, ddof=1) if",
        TESTS,
    ),
)
