"""Effects of the linear networks' results, over seeds."""

import math
from collections.abc import Sequence

from experiments.paper.effects import Part, Row, groups, number, sign_test


def theorem1(rows: Sequence[Row], rule) -> list[Part]:
    parts = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        own = [row for row in rows if row["layer"] == layer]
        plain = sorted((r for r in own if r["optimizer"] == "sgdm"), key=lambda r: int(r["d"]))
        logs, errors = [], []
        for row in (plain[0], plain[-1]):
            logs.append(math.log(number(row["r_med"])))
            deviation = math.log(number(row["r_med_90"]) / number(row["r_med_10"])) / (2 * 1.2816)
            errors.append(math.sqrt(math.pi / 2) * deviation / math.sqrt(number(row["seeds_ok"])))
        effect, error = logs[1] - logs[0], math.hypot(*errors)
        p = math.erfc(abs(effect) / error / math.sqrt(2)) if error else None
        seeds = min(int(row["seeds_ok"]) for row in (plain[0], plain[-1]))
        ends = effect - 1.96 * error, effect + 1.96 * error
        parts.append(Part(f"sgdm grows, {layer}", effect, *ends, p, seeds, "seeds"))
        wide = [r for r in own if r["optimizer"] == "adam" and int(r["d"]) >= 64]
        if wide:
            effect = math.log(1.02 / max(number(row["max_r_med_worst_seed"]) for row in wide))
            seeds = min(int(row["seeds_ok"]) for row in wide)
            parts.append(_of_worst_seed(f"adam, {layer}", effect, seeds))
    return parts


def _of_worst_seed(name: str, effect: float, seeds: int) -> Part:
    """An effect that no seed falls below, so that all seeds have its sign where it is positive."""
    p = sign_test(seeds, seeds) if effect > 0 else None
    return Part(name, effect, effect, math.inf, p, seeds, "the worst seed")


def corollary1(rows: Sequence[Row], rule) -> list[Part]:
    return [
        _of_worst_seed(
            f"d = {d}",
            math.log(min(number(row["least_ratio"]) for row in own)),
            min(int(row["seeds"]) for row in own),
        )
        for d, own in groups(rows, "d").items()
    ]


def theorem2(rows: Sequence[Row], rule) -> list[Part]:
    parts = []
    for row in rows:
        constant = number(row["constant_matrix"])
        seeds, below = int(row["seeds_ok"]), int(row["seeds_below"])
        ends = [math.log(constant / number(row[key])) for key in ("after_90", "after_10")]
        # Of the median, by the normal approximation in logarithms.
        effect = math.log(constant / number(row["after"]))
        half = 1.96 * math.sqrt(math.pi / 2) * (ends[1] - ends[0]) / (2 * 1.2816) / math.sqrt(seeds)
        name = f"{row['optimizer']}, d = {row['d']}"
        p = sign_test(below, seeds)
        parts.append(Part(name, effect, effect - half, effect + half, p, seeds, "seeds"))
    return parts


def limits(rows: Sequence[Row], rule) -> list[Part]:
    parts = []
    for panel, own in groups((r for r in rows if r["optimizer"] == "adam"), "panel").items():
        trained = [row for row in own if int(row["ok"])]
        if trained:
            last = max(trained, key=lambda row: number(row["value"]))
            effect = math.log(1.5 / number(last["last_layer_r_med"]))
            parts.append(Part(panel, effect, None, None, None, int(last["ok"]), "none kept"))
    return parts
