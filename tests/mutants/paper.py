"""Faults in what sets our numbers beside the paper's."""

from tests.mutants.mutant import Mutant

MEASURES = ("tests/paper/test_measures.py",)
COMPARISON = "experiments/paper/comparison.py"
PAIRING, PAIRING_TESTS = "experiments/paper/pairing.py", ("tests/paper/test_pairing.py",)
VERDICTS, VERDICTS_TESTS = "experiments/paper/verdicts.py", ("tests/paper/test_verdicts.py",)
EFFECTS = "experiments/paper/effects.py"

MUTANTS = (
    Mutant(
        "archive_without_entries",
        "an archive keeps the gradients of each repeat in place of the Hessian's entries",
        "experiments/paper/archive.py",
        '_OF_EVERY_REPEAT = (".diagonal", ',
        '_OF_EVERY_REPEAT = (".gradient", ',
        ("tests/paper/test_archive.py",),
    ),
    Mutant(
        "agreement_on_one_side_alone",
        "agreement with the paper counts our ratios above 1, whatever the paper's are",
        COMPARISON,
        'same = sum((row["ours_ratio"] > 1) == (row["paper_ratio"] > 1) for row in both)',
        'same = sum(row["ours_ratio"] > 1 for row in both)',
        MEASURES,
    ),
    Mutant(
        "common_start_compared",
        "the common start of both optimizers counts as a ratio",
        COMPARISON,
        "apart = [row for row in found if not _is_common(row)]",
        "apart = list(found)",
        MEASURES,
    ),
    Mutant(
        "speeds_inverted",
        "the ratio of speeds is the second's steps over the first's",
        "experiments/paper/gaps.py",
        "logs.append(np.log((int(at[0] or 0) + 1) / (int(at[1] or 0) + 1)))",
        "logs.append(np.log((int(at[1] or 0) + 1) / (int(at[0] or 0) + 1)))",
        MEASURES,
    ),
    Mutant(
        "lower_loss_taken",
        "speeds are compared at the lower of two lowest losses",
        "experiments/paper/gaps.py",
        "level = max(float(losses.min()) for losses in lowest)",
        "level = min(float(losses.min()) for losses in lowest)",
        MEASURES,
    ),
    Mutant(
        "equation_3_uncorrected",
        "Adam on linear networks lacks the bias correction of its first moment",
        "experiments/paper/linear/updates.py",
        "jnp.sqrt(1 - self.b2 ** (step + 1)) / (1 - self.b1 ** (step + 1))",
        "jnp.sqrt(1 - self.b2 ** (step + 1))",
        ("tests/paper/linear/test_training.py",),
    ),
    Mutant(
        "lemma_29_swapped",
        "a layer's closed-form diagonal has its rows and columns swapped",
        "experiments/paper/linear/networks.py",
        "return tuple(jnp.outer(rows, columns).ravel() for",
        "return tuple(jnp.outer(columns, rows).ravel() for",
        ("tests/paper/linear/test_closed_forms.py",),
    ),
    Mutant(
        "eps_in_the_tables",
        "the tables' R_med is what was recorded, with the probe's eps in its median",
        PAIRING,
        "known = entries is not None and self._statistic in FROM_ENTRIES",
        "known = False",
        PAIRING_TESTS,
    ),
    Mutant(
        "repeats_paired_by_place",
        "the means are over all repeats of a side and not over those of both",
        PAIRING,
        "(np.array([own[repeat] for repeat in repeats], float) for own in values)",
        "(np.array(list(own.values()), float)[: len(repeats)] for own in values)",
        PAIRING_TESTS,
    ),
    Mutant(
        "labels_not_checked",
        "rows of other optimizers than the rule's are judged",
        VERDICTS,
        "others = sorted(named - set(rule.pairs)) if rule.pairs else []",
        "others = []",
        VERDICTS_TESTS,
    ),
    Mutant(
        "eps_not_checked",
        "an R_med below 1 is judged",
        VERDICTS,
        "below = sum(value < 1 - 1e-5 for value in values)",
        "below = 0",
        VERDICTS_TESTS,
    ),
    Mutant(
        "few_repeats_judged",
        "any number of repeats is called reproduced",
        VERDICTS,
        "if part.repeats < LEAST_REPEATS or part.low is None",
        "if part.low is None",
        VERDICTS_TESTS,
    ),
    Mutant(
        "one_sided_test",
        "the label swap counts one side alone",
        EFFECTS,
        "means = np.abs(signs @ effects)",
        "means = signs @ effects",
        VERDICTS_TESTS,
    ),
    Mutant(
        "each_from_its_own_start",
        "the run that switches counts from the switch, the other from its start",
        "experiments/paper/verdict_measures.py",
        "since = [max(0.0, float(step - start)) + 1 for step in at]",
        "since = [float(step - own[0]) + 1 for step, own in zip(at, steps, strict=True)]",
        VERDICTS_TESTS,
    ),
    Mutant(
        "infinite_layers_leave",
        "layers with an infinite ratio leave the medians of the claim",
        "experiments/paper/gaps.py",
        "known = ~np.isnan(logs[2])",
        "known = np.isfinite(logs[2])",
        MEASURES,
    ),
)
