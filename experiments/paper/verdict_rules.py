"""By what rule each experiment's outcome is judged: written before its numbers are looked at.

An outcome is `reproduced`, `in part`, `undecided` or `contradicted`. Each part (a setting at a
step) has an effect, which is positive where the claim holds, over at least `LEAST_REPEATS` repeats:

- reproduced: the effect is at least the margin, its 95% interval lies above 0, and p is at most
  `LEVEL`;
- contradicted: its 95% interval lies below the margin;
- undecided: otherwise, and with fewer repeats.

A claim that something is not so (`holds=False`) has the two exchanged. The parts make the whole:
all the same, that; some reproduced, in part; otherwise undecided.
"""

import dataclasses
import math

LEAST_REPEATS = 6
LEVEL = 0.05

# A weight is nearly of low rank if its leading tenth of singular values holds this share of ‖W‖².
HALF = 0.5

_FACTOR = math.log(1.1)
_RATIO = "log ratio of R_med, geometric means"
_SPEED = "log ratio of steps to the baseline's final loss"
_SWAP = "label swap over repeats"
_SGDM_ADAM = (("sgdm", "adam"),)
_SGD_ADAGRAD = (("sgd", "adagrad"),)


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one experiment is judged.

    Attributes:
      name: the experiment's id.
      claim: what the paper says (or, beyond the paper, what is asked).
      measure: what makes effects of the rows of its results, by name in `verdict_measures`.
      statistic: the effect, in words.
      steps: at which steps.
      layers: over which layers, by median.
      margin: the least effect that counts as one.
      test: what p is of.
      pairs: the optimizers that the rows may name as first and second.
      holds: whether the claim is that the effect is there, or that it is not.
    """

    name: str
    claim: str
    measure: str
    statistic: str
    steps: str
    layers: str
    margin: float
    test: str
    pairs: tuple[tuple[str, str], ...] = ()
    holds: bool = True


def _table(name: str, pairs=_SGDM_ADAM, holds: bool = True, steps: str = "each") -> Rule:
    claim = f"R_med of {pairs[0][0]} is {'' if holds else 'not '}above that of {_seconds(pairs)}"
    layers = "those of the paper's table"
    return Rule(name, claim, "ratio", _RATIO, steps, layers, _FACTOR, _SWAP, pairs, holds)


def _losses(name: str, pairs=_SGDM_ADAM, holds: bool = True, claim: str = "") -> Rule:
    verb = "are" if len(pairs) > 1 else "is"
    claim = claim or f"{_seconds(pairs)} {verb} {'' if holds else 'not '}faster than {pairs[0][0]}"
    return Rule(name, claim, "speed", _SPEED, "last", "none", _FACTOR, _SWAP, pairs, holds)


def _seconds(pairs: tuple[tuple[str, str], ...]) -> str:
    return " and ".join(second for _, second in pairs)


def _gaps(name: str, claim: str, *seconds: str, holds: bool = True, measure: str = "gap") -> Rule:
    pairs = tuple(("sgdm", second) for second in seconds)
    steps = "last of each setting"
    return Rule(name, claim, measure, _RATIO, steps, "all", _FACTOR, _SWAP, pairs, holds)


def _alignment(name: str, first: str, second: str) -> Rule:
    return Rule(
        name,
        "adaptive updates align less with the curvature",
        "alignment",
        "ρ(|u|, |H_ii|) of the first less that of the second",
        "last",
        "all",
        0.05,
        _SWAP,
        ((first, second),),
    )


def _low_rank(name: str, steps: str = "last") -> Rule:
    return Rule(
        name,
        "R_u of sgdm is above that of adam where the weight is nearly of low rank",
        "low_rank" if steps == "last" else "low_rank_over_time",
        "log ratio of R_u",
        steps,
        "those nearly of low rank under adam",
        _FACTOR,
        _SWAP,
        _SGDM_ADAM,
    )


_RULES = (
    _losses(
        "figure1a",
        (("sgdm_from_sgdm", "sgdm_from_adam"),),
        claim="sgdm is faster from adam's iterate",
    ),
    Rule(
        "figure1b",
        "R_med of sgdm is above that of adam",
        "over_time",
        _RATIO,
        "each",
        "all",
        _FACTOR,
        _SWAP,
        _SGDM_ADAM,
    ),
    Rule(
        "section31",
        "a large gain makes smoothness and condition number large",
        "gain",
        "log ratio, gain 800 over gain 1",
        "first",
        "all",
        math.log(10.0),
        "none: the initial weights are those of one seed",
    ),
    _table("table1"),
    _losses("figure2"),
    _table("table2a"),
    _losses("figure3a"),
    _table("table2b"),
    _losses("figure3b"),
    _alignment("figure4", "sgdm", "adam"),
    _low_rank("figure5"),
    _table("table3", _SGD_ADAGRAD),
    _table("table4", _SGD_ADAGRAD),
    _table("table5", _SGD_ADAGRAD),
    _losses("figure6", _SGD_ADAGRAD),
    _table("table6", (("sgdm", "rmsprop"), ("sgdm", "amsgrad"))),
    _losses("figure7", (("sgdm", "rmsprop"), ("sgdm", "amsgrad"))),
    _table("table7"),
    Rule(
        "table8",
        "the switch to adam lowers R_med below that of sgd that never switches",
        "switch",
        "log ratio of R_med, never switched over switched",
        "after the switch",
        "those of the paper's table",
        _FACTOR,
        _SWAP,
        (("sgd", "adam"), ("adam_after_sgd", "adam")),
    ),
    _losses(
        "figure8",
        (("sgd", "adam_after_sgd"), ("sgd", "adam")),
        claim="adam after sgd, counted from the switch, and adam are faster than sgd",
    ),
    Rule(
        "figure9",
        "some weights are nearly of low rank under adam",
        "leading_share",
        f"log of the leading tenth's share of ‖W‖² over {HALF:g}",
        "last",
        "the one nearest to low rank",
        0.0,
        "sign change over repeats",
    ),
    _low_rank("figure10", "each"),
    _alignment("figure11", "sgd", "adagrad"),
    _alignment("figure12", "sgdm", "adam"),
    _table("table9"),
    _losses("figure13a"),
    _table("table10", holds=False),
    _losses("figure13b", holds=False),
    Rule(
        "figure14",
        "mean and median r_diag fall over time under both",
        "fall",
        "log ratio, first step over last",
        "first and last",
        "all",
        0.0,
        "sign change over repeats",
    ),
    Rule(
        "claim",
        "a larger gap in R_med goes with a larger gap in speed",
        "rank",
        "Spearman's ρ over (pair, step)",
        "each",
        "median of all",
        0.0,
        "bootstrap over pairs of optimizers",
    ),
    Rule(
        "theorem1",
        "R_med of sgdm grows with the width, adam's stays below 1.02 from d = 64 on",
        "theorem1",
        "log ratio of R_med, largest d over smallest; log(1.02 / adam's largest)",
        "from T1 to T2",
        "both",
        0.0,
        "normal and sign over seeds",
    ),
    Rule(
        "corollary1",
        "at equal loss R_med of sgdm is above adam's",
        "corollary1",
        "log of the least ratio of a seed",
        "each loss",
        "both",
        _FACTOR,
        "sign over seeds",
    ),
    Rule(
        "theorem2",
        "R_diag ends below that of a constant matrix",
        "theorem2",
        "log ratio, constant matrix over R_diag",
        "last",
        "all together",
        0.0,
        "sign over seeds",
    ),
    Rule(
        "linear_limits",
        "(beyond the paper) adam's R_med stays below 1.5 at the largest value of each panel",
        "limits",
        "log(1.5 / R_med of the last layer)",
        "last",
        "last",
        0.0,
        "none: medians of seeds alone are kept",
    ),
    Rule(
        "extra_classes",
        "(beyond the paper) R_med at the initial weights is larger with more classes",
        "classes",
        "log ratio of R_med, most over fewest classes",
        "0",
        "the head, and the median of the others",
        _FACTOR,
        "sign change over seeds",
    ),
    Rule(
        "extra_full",
        "(beyond the paper) the sampled R_med is below the layer's",
        "sampled",
        "log ratio, whole layer over sample",
        "each",
        "all",
        _FACTOR,
        "none: whole diagonals are of one repeat",
    ),
    Rule(
        "extra_optimizers",
        "(beyond the paper) R_med of sgdm is above that of each newer optimizer",
        "ratio",
        _RATIO,
        "each equal loss, and the last",
        "all",
        _FACTOR,
        _SWAP,
        tuple(("sgdm", name) for name in ("adamw", "lion", "muon")),
    ),
    Rule(
        "extra_parts",
        "(beyond the paper) R_med of sgdm is above that of adam within queries, keys and values",
        "within",
        _RATIO,
        "each",
        "the fused in-projections of table 2(a), part by part",
        _FACTOR,
        _SWAP,
        _SGDM_ADAM,
    ),
    Rule(
        "extra_preconditioned",
        "(beyond the paper) R_med of the first is above the second's, and where the optimizer sees",
        "gap",
        _RATIO,
        "last of each setting",
        "all",
        _FACTOR,
        _SWAP,
        (("sgdm", "adam"), ("sgd", "adagrad")),
    ),
    Rule(
        "extra_rates",
        "(beyond the paper) the preconditioned sharpness is lower at a larger learning rate",
        "rates",
        "log ratio of sharpness, smallest rate over largest",
        "last",
        "all weights together",
        _FACTOR,
        "sign change over repeats",
    ),
    _gaps("extra_size", "(beyond the paper) R_med of sgdm is above adam's at each size", "adam"),
    Rule(
        "extra_tokens",
        "(beyond the paper) R_med of the head is above that of its columns of like frequency",
        "tokens",
        "log ratio of R_med, whole head over columns",
        "last",
        "the head; median over ranges of frequency",
        _FACTOR,
        "sign change over repeats",
    ),
    _gaps(
        "extra_weight_decay",
        "R_med of sgdm is not above adam's under weight decay",
        "adam",
        holds=False,
        measure="gap_under_decay",
    ),
)

RULES = {rule.name: rule for rule in _RULES}
