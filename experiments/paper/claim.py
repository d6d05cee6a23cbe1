"""The claim, quantified: does a larger gap in R_med go with a larger gap in speed?"""

import numpy as np

from experiments.paper.comparison import Side
from experiments.paper.gaps import Gap, gap_rows, gap_table, scatter
from experiments.paper.ranks import bootstrap_of_rank_correlation, rank_correlation
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext


def _gap(setting: str, runs: str, first: str = "sgdm", second: str = "adam") -> Gap:
    return Gap(setting, Side(runs, first), Side(runs, second))


GAPS = (
    _gap("LM, uniform, gain 2", "lm_uniform_2", "sgd", "adagrad"),
    _gap("LM, uniform, gain 1", "lm_uniform", "sgd", "adagrad"),
    _gap("LM, normal, gain 2", "lm_normal_2", "sgd", "adagrad"),
    _gap("LM, normal, gain 1", "lm_normal", "sgd", "adagrad"),
    _gap("LM, random targets", "lm_random", "sgd", "adagrad"),
    _gap("LM, uniform, gain 1", "lm_adam"),
    Gap("LM, uniform, gain 1", Side("lm_uniform", "sgd"), Side("lm_adam", "sgdm")),
    Gap("LM, uniform, gain 1", Side("lm_adam", "adam"), Side("lm_uniform", "adagrad")),
    _gap("translation", "translation"),
    _gap("translation, random targets", "translation_random"),
    _gap("translation, weight decay", "translation_weight_decay"),
    Gap("translation", Side("translation", "sgdm"), Side("translation_adaptive", "rmsprop")),
    Gap("translation", Side("translation", "sgdm"), Side("translation_adaptive", "amsgrad")),
    Gap("translation", Side("translation_switch", "sgd"), Side("translation", "adam")),
    _gap("BERT", "bert"),
    _gap("ResNet", "resnet"),
)


def run(context: ReproductionContext) -> Result:
    """A point for each pair of optimizers and probed step, and their rank correlation."""
    rows = gap_rows(GAPS, context)
    known = [r for r in rows if r["speed_ratio"] is not None and not np.isnan(r["ratio_median"])]
    x, y = ([row[key] for row in known] for key in ("speed_ratio", "ratio_median"))
    rho, _ = rank_correlation(x, y)
    pairs = [(row["setting"], row["first"], row["second"]) for row in known]
    draws = bootstrap_of_rank_correlation(x, y, pairs)
    low, high = np.quantile(draws, (0.025, 0.975)) if len(draws) else (np.nan, np.nan)
    sides = sum((a > 1) == (b > 1) for a, b in zip(x, y, strict=True))
    last = list({(r["setting"], r["first"], r["second"]): r for r in known}.values())
    ends = [[row[key] for row in last] for key in ("speed_ratio", "ratio_median")]
    at_end, _ = rank_correlation(ends[0], ends[1])
    verdict = (
        "the paper claims that a larger gap in R_med goes with a larger gap in speed; Spearman's "
        f"ρ over {len(known)} (pair, step) is {rho:.2f} (95% {low:.2f} to {high:.2f}, by "
        f"resampling the pairs with all of their steps), {at_end:.2f} over the last steps of the "
        f"{len(last)} pairs; the faster optimizer is the more uniform one in {sides} of "
        f"{len(known)}"
    )
    title = "The claim, quantified: ratios of R_med and of speed"
    figure = scatter(rows, [row["setting"] for row in rows])
    return Result(rows, gap_table(title, rows), {"claim": figure}, verdict)
