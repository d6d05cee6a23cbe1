"""Verdicts follow their rules, and faults in a results file are seen."""

import csv
import math

import numpy as np
import pytest

from experiments.paper import effects, verdict_measures
from experiments.paper.registry import EXPERIMENTS, RESULTS
from experiments.paper.verdict_rules import RULES
from experiments.paper.verdicts import covers, judge, read_rows, verdict_table


def table_row(first, second, layer=3, names=("sgdm", "adam"), checkpoint="epoch 30", step="5"):
    logs = np.log(first) - np.log(second)
    return {
        "setting": "",
        "checkpoint": checkpoint,
        "our_checkpoint": checkpoint,
        "step": step,
        "step_of_second": step,
        "layer": layer,
        "first": names[0],
        "second": names[1],
        "paper_first": 1.0,
        "repeats": len(first),
        "ours_first": np.mean(first),
        "ours_second": np.mean(second),
        "ours_ratio": math.exp(np.mean(logs)),
        "ours_ratio_std": 0.1,
        "first_by_repeat": effects_cell(first),
        "second_by_repeat": effects_cell(second),
    }


def effects_cell(values):
    return " ".join(f"{value:.6g}" for value in values)


def table(factor=2.0, repeats=6, **options):
    rng = np.random.default_rng(0)
    noise = np.exp(0.1 * rng.normal(size=(2, 3, repeats)))
    rows = []
    for layer in range(3):
        second = 3.0 * noise[1, layer]
        rows.append(table_row(factor * second * noise[0, layer], second, layer, **options))
    start = table_row([5.0] * repeats, [5.0] * repeats, checkpoint="epoch 0", step="0")
    return [start, *rows]


def write(folder, name, rows):
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def swapped(row, *keys):
    """A row with the values of two keys exchanged."""
    return row | {keys[0]: row[keys[1]], keys[1]: row[keys[0]]}


def test_a_ratio_is_reproduced_by_six_repeats():
    found = judge("table2a", table())
    assert str(found) == "reproduced"
    ((part, _),) = found.parts
    assert part.effect == pytest.approx(math.log(2), abs=0.1)
    assert part.low < part.effect < part.high
    assert part.p == 2 / 64
    assert str(judge("table2a", table(repeats=5))).startswith("undecided (repeats: 5, needed: 6")
    assert judge("table2a", table(1.03)).outcome != "reproduced", "below the margin"
    assert judge("table10", table()).outcome == "contradicted", "its claim is that there is none"
    assert judge("table10", table(1.0)).outcome == "reproduced"


def test_parts_make_the_whole():
    more = table(0.5, checkpoint="epoch 55")[1:]
    assert judge("table2a", table() + more).outcome == "in part"
    few = table(0.5, repeats=2, checkpoint="epoch 55")[1:]
    assert judge("table2a", table(0.5) + few).outcome == "undecided"


def test_swapped_labels_are_caught(tmp_path):
    rows = table()
    for name, keys in {
        "table2a": ("first_by_repeat", "second_by_repeat"),
        "table9": ("first", "second"),
        "table7": ("ours_first", "ours_second"),
    }.items():
        write(tmp_path, name, [swapped(row, *keys) for row in rows])
    found = {name: judge(name, read_rows(tmp_path, name)) for name in RULES}
    assert "ratio and means are not of the same repeats" in str(found["table2a"])
    assert "the rule is of sgdm / adam, the rows are of adam / sgdm" in str(found["table9"])
    assert "ratio and means are not of the same repeats" in str(found["table7"])
    assert {found[name].outcome for name in ("table2a", "table9", "table7")} == {"undecided"}
    # Whoever exchanges all that is known of the two gets the opposite.
    assert judge("table2a", table(0.5)).outcome == "contradicted"


def test_an_eps_in_r_med_is_caught(tmp_path):
    rows = table()
    for row in rows[1:]:
        row["ours_second"] /= 1e3
        row["second_by_repeat"] = effects_cell(effects.by_repeat(row["second_by_repeat"]) / 1e3)
        row["ours_ratio"] *= 1e3
    write(tmp_path, "table2b", rows)
    found = judge("table2b", read_rows(tmp_path, "table2b"))
    assert str(found) == (
        "undecided (R_med is below 1 in 3 of 8 cells, so that eps was added to its median)"
    )


def test_the_switch_has_a_control():
    after = {"checkpoint": "after switch"}
    switched = table(1.0, names=("adam_after_sgd", "adam"), **after)[1:]
    for factor, outcome in ((2.0, "reproduced"), (1.0, "contradicted")):
        control = table(factor, names=("sgd", "adam"), **after)[1:]
        control = [row | {"paper_first": ""} for row in control]
        assert judge("table8", switched + control).outcome == outcome
    assert "no rows of what the rule compares" in str(judge("table8", switched))


def losses(optimizer, curve, start=0, repeats=6):
    return [
        {
            "panel": "translation",
            "optimizer": optimizer,
            "repeats": repeats,
            "step": start + k,
            "loss": loss,
        }
        for k, loss in enumerate(curve)
    ]


def test_speeds_count_from_one_point():
    base = losses("sgd", np.linspace(10.0, 5.0, 101))
    rows = base + losses("adam_after_sgd", np.linspace(7.0, 1.0, 41), start=60)
    rows += losses("adam", np.linspace(10.0, 0.0, 101))
    found = judge("figure8", rows)
    assert found.outcome == "undecided"
    assert [math.exp(part.effect) for part, _ in found.parts] == pytest.approx([41 / 15, 101 / 51])


def test_speeds_of_whole_curves_are_judged_by_repeats():
    def rows(speeds):
        own = losses("adam", [10.0, 5.0])
        of_adam = [row | {"speed_by_repeat": effects_cell(speeds)} for row in own]
        return losses("sgdm", [10.0, 5.0]) + of_adam

    found = judge("figure3a", rows([1.5, 1.6] * 3))
    assert found.outcome == "reproduced"
    ((part, _),) = found.parts
    assert math.exp(part.effect) == pytest.approx(math.sqrt(1.5 * 1.6))
    assert judge("figure3a", rows([1.01, 0.99] * 3)).outcome == "contradicted"


def gaps(noise):
    rng = np.random.default_rng(0)
    return [
        {
            "setting": f"setting {pair}",
            "first": "sgdm",
            "second": "adam",
            "speed_ratio": speed,
            "ratio_median": math.exp((1 - noise) * math.log(speed) + noise * rng.normal()),
        }
        for pair in range(10)
        for speed in (1.0 + pair, 1.2 + pair, 1.4 + pair)
    ]


def test_the_claim_is_undecided_where_its_interval_covers_zero():
    assert judge("claim", gaps(0.0)).outcome == "reproduced"
    assert judge("claim", gaps(1.0)).outcome == "undecided"
    far = [row | {"ratio_median": math.inf} for row in gaps(0.0)[:3]]
    ((part, _),) = judge("claim", far + gaps(0.0)[3:]).parts
    assert part.repeats == 10
    assert part.effect < 0.8, "infinite layers keep their place"


def test_label_swaps_and_signs():
    assert effects.label_swap(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert effects.label_swap(np.array([1.0, -1.0])) == 1.0
    assert effects.label_swap(np.array([1.0])) is None
    assert effects.label_swap(np.array([np.inf, 2.0, 3.0])) == 2 / 8
    assert effects.label_swap(np.arange(1.0, 17.0)) < 0.01
    assert effects.sign_test(6, 6) == 2 / 64
    assert effects.sign_test(3, 6) == 1.0


def test_intervals_of_files_without_repeats_are_by_repeats_alone():
    rows = [
        {k: v for k, v in row.items() if not k.endswith("by_repeat")} for row in table(repeats=3)
    ]
    ((part, outcome),) = judge("table2a", rows).parts
    assert outcome == "undecided"
    assert part.covers == "repeats, each layer's"
    # Of log(2) with deviation 0.1/2 over 3 repeats: t = 4.30.
    assert part.high - part.low == pytest.approx(2 * 4.303 * 0.05 / math.sqrt(3), rel=0.1)


def test_each_experiment_has_a_rule_and_published_files_are_judged():
    assert set(RULES) == set(EXPERIMENTS)
    assert {rule.measure for rule in RULES.values()} == set(verdict_measures.MEASURES)
    text = verdict_table(RESULTS).markdown()
    lines = {line.split(" | ")[1]: line for line in text.splitlines() if line.count(" | ") > 5}
    assert "| undecided" in lines["claim"]
    assert "eps was added" in lines["table2b"]
    assert "repeats: 3" in lines["figure3b"]
    assert "| reproduced |" in lines["corollary1"]
    assert all(rule.claim in lines[name] for name, rule in RULES.items())


def low_rank_row(layer, factor, share=0.6):
    noise = np.exp(0.05 * np.random.default_rng(layer).normal(size=6))
    values = {"sgdm_r_u": factor * noise, "adam_r_u": noise**0, "adam_leading_share": share * noise}
    cells = {f"{key}_by_repeat": effects_cell(own) for key, own in values.items()}
    return {"layer": layer, "step": 1650, "low_rank": int(share > 0.5), **cells}


def test_singular_vectors_are_judged_by_repeats_where_the_rank_is_low():
    others = [low_rank_row(layer, 0.2, 0.3) for layer in range(4, 9)]
    rows = others + [low_rank_row(layer, 1.5) for layer in range(1, 4)]
    found = judge("figure5", rows)
    assert str(found) == "reproduced"
    ((part, _),) = found.parts
    assert part.repeats == 6
    assert part.low < math.log(1.5) < part.high
    assert str(judge("figure5", [low_rank_row(1, 0.5)])) == "contradicted"
    assert "no rows of what the rule compares" in str(judge("figure5", others))
    assert judge("figure9", rows).outcome == "reproduced"
    assert judge("figure9", others).outcome == "contradicted"


def over_time_row(optimizer, layer, step, values, **more):
    own = {"optimizer": optimizer, "layer": layer, "step": step, "repeats": len(values)}
    spread = {"mean": np.mean(values), "std": np.std(values), "by_repeat": effects_cell(values)}
    return own | spread | {"statistic": "r_u"} | more


def test_singular_vectors_over_time_are_those_of_low_rank():
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=6))
    rows = [
        over_time_row(name, layer, 600, factor * noise ** (name == "adam"), low_rank=low)
        for layer, low, at_sgdm in ((3, 1, 1.5), (7, 0, 0.1))
        for name, factor in (("sgdm", at_sgdm), ("adam", 1.0))
    ]
    found = judge("figure10", rows)
    assert [part.name for part, _ in found.parts] == ["r_u, step 600"]
    assert str(found) == "reproduced"


def test_r_diag_over_time_is_judged_by_repeats():
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=6))
    values = {0: 5.0 * noise, 60: np.full(6, 2.0), 120: np.ones(6)}
    rows = [over_time_row("adam", layer, step, values[step]) for layer in (1, 2) for step in values]
    ((part, outcome),) = judge("figure14", rows).parts
    assert outcome == "reproduced"
    assert part.low < math.log(5.0) < part.high


def test_each_setting_is_compared_in_the_papers_layers_or_else_in_all():
    known = [row | {"setting": "translation"} for row in table()]
    other = [row | {"setting": "BERT", "paper_first": ""} for row in table(0.5)]
    found = judge("table7", known + other)
    names = ["translation, epoch 30", "BERT, epoch 30"]
    assert [part.name for part, _ in found.parts] == names
    assert [outcome for _, outcome in found.parts] == ["reproduced", "contradicted"]


def test_runs_without_decay_are_no_case_of_decay():
    def row(setting, ratio):
        cell = {"ratio_by_repeat": effects_cell(ratio * np.exp(0.01 * np.arange(6)))}
        return {"setting": setting, "first": "sgdm", "second": "adam", "ratio_median": ratio} | cell

    found = judge("extra_weight_decay", [row("weight decay 0", 0.5), row("weight decay 0.1", 2.0)])
    assert found.outcome == "contradicted"
    assert [part.name for part, _ in found.parts] == ["weight decay 0.1: sgdm / adam"]


def test_layers_without_an_effect_are_counted():
    rows = table()
    rows[1]["first_by_repeat"] = rows[1]["second_by_repeat"] = effects_cell([0.0] * 2 + [1.0] * 4)
    found = effects.over_layers("a", rows[1:])
    assert found.undefined == 2
    assert covers(found) == "repeats; 2 undefined"


def test_alignments_are_judged_by_repeats_over_whole_layers():
    draw = np.random.default_rng(0)

    def row(optimizer, layer, center):
        values = center + 0.01 * draw.normal(size=6)
        correlations = {"rho_update": values[0], "rho_update_by_repeat": effects_cell(values)}
        return {"optimizer": optimizer, "layer": layer} | correlations

    whole = [row("sgdm", layer, 0.8) for layer in range(1, 4)]
    whole += [row("adam", layer, 0.4) for layer in range(1, 4)]
    parts = [row("adam", 100 * layer + 1, 0.9) for layer in range(1, 8)]
    found = judge("figure12", whole + parts)
    assert str(found) == "reproduced"
    ((part, _),) = found.parts
    assert part.effect == pytest.approx(0.4, abs=0.02)
    assert part.low < part.effect < part.high
    assert part.repeats == 6
