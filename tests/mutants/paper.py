"""Faults in what sets our numbers beside the paper's."""

from tests.mutants.mutant import Mutant

MEASURES = ("tests/paper/test_measures.py",)
COMPARISON = "experiments/paper/comparison.py"

MUTANTS = (
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
)
