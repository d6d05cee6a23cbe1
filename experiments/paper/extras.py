"""Beyond the paper: what the optimizer sees, size, weight decay."""

from experiments.paper.comparison import Side
from experiments.paper.gaps import Gap, gap_rows, gap_table, number, scatter
from experiments.paper.result import Result
from experiments.paper.runs import RUN_SETS
from experiments.paper.training import ReproductionContext
from experiments.paper.verdict_measures import WITHOUT_DECAY

_KNOWN = [
    Gap("LM", Side("lm_adam", "sgdm"), Side("lm_adam", "adam")),
    Gap("translation", Side("translation", "sgdm"), Side("translation", "adam")),
]
SIZES = [
    Gap(
        f"width {name.split('_')[2]}, {name.split('_')[3]} blocks",
        Side(name, "sgdm"),
        Side(name, "adam"),
    )
    for name in RUN_SETS
    if name.startswith("lm_size_")
]
DECAYS = [
    Gap(setting, Side(runs, "sgdm"), Side(runs, "adam"))
    for setting, runs in (
        (WITHOUT_DECAY, "translation"),
        ("weight decay 0.001", "translation_weight_decay"),
        ("weight decay 0.01", "translation_weight_decay_01"),
        ("weight decay 0.1", "translation_weight_decay_1"),
    )
]


def preconditioned(context: ReproductionContext) -> Result:
    """R_med of H_ii / P_ii, which the optimizer sees, beside that of H."""
    gaps = [*_KNOWN, Gap("LM", Side("lm_uniform", "sgd"), Side("lm_uniform", "adagrad"))]
    plain, seen = (gap_rows(gaps, context, name) for name in ("r_med", "preconditioned_r_med"))
    rows = [
        {**row, "setting": f"{row['setting']}, {text}"}
        for own, text in ((plain, "H"), (seen, "what the optimizer sees"))
        for row in own
    ]
    fewer = sum(b["second_median"] < a["second_median"] for a, b in zip(plain, seen, strict=True))
    above, of_h = (sum(row["above_1"] for row in own) for own in map(_with_speed, (seen, plain)))
    layers = sum(row["layers"] for row in _with_speed(seen))
    verdict = (
        f"the adaptive optimizer sees a more uniform diagonal than H's in {fewer} of {len(plain)} "
        "(setting, step), by the median over layers; SGD sees H itself; where both have a speed, "
        f"SGD's R_med over the adaptive one's is above 1 in {above} of {layers} (layer, step) as "
        f"they see it, in {of_h} for H"
    )
    figure = scatter(rows, [row["setting"] for row in rows])
    title = "Preconditioned R_med"
    return Result(rows, gap_table(title, rows), {"extra_preconditioned": figure}, verdict)


def size(context: ReproductionContext) -> Result:
    """The ratio of R_med against width and depth of the language model."""
    rows = gap_rows(SIZES, context)
    summary = "; ".join(
        f"{row['setting']}: {row['ratio_median']:.2f} ({row['above_1']} of {row['layers']} above 1)"
        for row in _last(rows)
    )
    verdict = f"SGD+M's R_med over Adam's at the last step, median over layers: {summary}"
    figure = scatter(rows, [row["setting"] for row in rows])
    return Result(rows, gap_table("R_med against size", rows), {"extra_size": figure}, verdict)


def weight_decay(context: ReproductionContext) -> Result:
    """Section 4.4: under large decay Adam may be faster and less uniform."""
    rows = gap_rows(DECAYS, context)
    last = _last(rows)
    cases = [
        row["setting"]
        for row in last
        if row["setting"] != WITHOUT_DECAY
        and (row["speed_ratio"] or 0) > 1
        and row["ratio_median"] < 1
    ]
    summary = "; ".join(
        f"{row['setting']}: {row['ratio_median']:.2f} at {number(row['speed_ratio'])}× the speed"
        for row in last
    )
    verdict = (
        "the paper saw cases under large decay where Adam is faster and not more uniform; ours "
        f"at the last step, SGD+M's R_med over Adam's, median over layers: {summary}; such cases: "
        f"{', '.join(cases) or 'none'}"
    )
    figure = scatter(rows, [row["setting"] for row in rows])
    return Result(rows, gap_table("Weight decay", rows), {"extra_weight_decay": figure}, verdict)


def _with_speed(rows):
    """The rows after a whole window of losses."""
    return [row for row in rows if row["speed_ratio"] is not None]


def _last(rows):
    return list({(row["setting"], row["second"]): row for row in rows}.values())
