"""The paper's run sets: that their configs hold what the experiments ask of them."""

import pytest

from experiments.paper import paper_numbers
from experiments.paper.comparison import epochs
from experiments.paper.loss_figures import FIGURES
from experiments.paper.registry import EXPERIMENTS
from experiments.paper.run_configs import SCALES, config_hash, load_config, parse_overrides
from experiments.paper.runs import RUN_SETS
from experiments.paper.tables import TABLES
from hgeo.errors import InputError
from hgeo.experiment.resolve import resolve
from hgeo.experiment.work_folder import WorkFolder

COMPARISONS = [
    pytest.param(comparison, id=f"{name} {comparison.setting}")
    for name, (_, comparisons) in TABLES.items()
    for comparison in comparisons
]
OF_PAPER = [parameter for parameter in COMPARISONS if parameter.values[0].table]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", RUN_SETS)
def test_configs_are_sound(tmp_path, monkeypatch, name, scale):
    config = load_config(name, scale)
    # Data of that size: what is checked here needs none.
    monkeypatch.setattr(WorkFolder, "num_examples", lambda folder: 100_000)
    resolved = resolve(config, WorkFolder(tmp_path))
    assert resolved.optimizers == tuple(config.optimizers)


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_comparisons_are_of_what_runs_and_is_probed(comparison):
    for side in (comparison.first, comparison.second):
        for scale in SCALES:
            config = load_config(side.runs, scale)
            assert side.optimizer in config.optimizers
            for moment in comparison.checkpoints.values():
                if not isinstance(moment, int):
                    step = round(config.steps * moment[0] / moment[1])
                    assert step in config.probe.steps, (scale, step)


@pytest.mark.parametrize("comparison", OF_PAPER)
def test_comparisons_probe_where_the_paper_did(comparison):
    table = paper_numbers.of_table(comparison.table)
    assert set(comparison.checkpoints) <= {checkpoint for checkpoint, *_ in table}
    for side, series in zip((comparison.first, comparison.second), comparison.series, strict=True):
        assert any(known == series for *_, known in table)
        layers = {layer for _, layer, known in table if known == series}
        for scale in comparison.matches:
            if scale != "smoke":
                assert layers <= set(load_config(side.runs, scale).probe.layers)


def test_all_of_the_papers_checkpoints_are_compared():
    shown = {(c.values[0].table, k) for c in OF_PAPER for k in c.values[0].checkpoints}
    assert shown == {(n.table, n.checkpoint) for n in paper_numbers.numbers()}


def test_paper_scale_has_the_papers_steps():
    assert load_config("translation", "paper").probe.steps == (0, 300, 600, 900, 1200, 1650)
    assert load_config("bert", "paper").probe.steps[:3] == (0, 750, 1250)
    assert load_config("resnet", "paper").probe.steps == (0, 500, 1000, 2000)
    assert epochs(60, 30, 55) == {"epoch 30": (30, 60), "epoch 55": (55, 60)}


def test_every_design_id_is_there():
    numbered = [f"table{n}" for n in (1, "2a", "2b", 3, 4, 5, 6, 7, 8, 9, 10)]
    figures = ("1a", "1b", 2, "3a", "3b", 4, 5, 6, 7, 8, 9, 10, 11, 12, "13a", "13b", 14)
    numbered += [f"figure{n}" for n in figures]
    others = ["section31", "theorem1", "corollary1", "theorem2", "extra_weight_decay", "claim"]
    assert {*numbered, *others} <= set(EXPERIMENTS)
    assert set(FIGURES) <= set(EXPERIMENTS)
    assert all(set(e.runs) <= set(RUN_SETS) for e in EXPERIMENTS.values())


def test_hash_is_that_of_the_runs():
    config = load_config("translation", "cpu")
    assert config_hash(config) == config_hash(load_config("translation", "cpu", repeats=7))
    assert config_hash(config) == config_hash(load_config("translation_same_loss", "cpu"))
    earlier = load_config("translation", "cpu")
    with earlier.unlocked():
        del earlier.probe.dropout
    assert config_hash(config) == config_hash(earlier), "runs of the version before are found again"
    with config.unlocked():
        config.probe.dropout = True
    assert config_hash(config) != config_hash(earlier)
    # `gpu` and `paper` differ for some sets in the checkpoints alone, which are no other run.
    scales = set(SCALES) - {"gpu"}
    hashes = {config_hash(load_config(name, scale)) for name in RUN_SETS for scale in scales}
    shared = {"translation_same_loss", "bert_same_loss"}
    probes = {name for name, run_set in RUN_SETS.items() if run_set.probes_of}
    least = len(scales) * len(set(RUN_SETS) - shared - probes)
    assert len(hashes) >= least


def test_unknown_scale_is_named():
    with pytest.raises(InputError, match="unknown scale 'huge'; scales are paper, gpu, cpu, smoke"):
        load_config("lm_uniform", "huge")


def test_overrides_replace_values_and_change_the_hash():
    overrides = parse_overrides(["steps=30", "adam.learning_rate=5e-4", "model.num_heads=4"])
    config = load_config("translation", "smoke", overrides=overrides)
    assert (config.steps, config.adam.learning_rate, config.model.num_heads) == (30, 5e-4, 4)
    assert config.probe.steps[-1] == round(30 * 55 / 60)
    assert config_hash(config) != config_hash(load_config("translation", "smoke"))
    switch = load_config("translation_switch", "smoke", overrides=overrides)
    assert switch.adam_after_sgd.start_step == 15
    assert switch.adam_after_sgd.learning_rate == 5e-4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "takes key=value, not 'steps'"),
        ("repeats=3", "give --repeats"),
        ("probe.steps=(0,3)", "change steps"),
        ("adam.learning_rat=1", r"'lm_adam' lacks this key; it has adam\.learning_rate"),
        ("probes=1", "'lm_adam' lacks this key"),
        ("adam={'b1': 0.8}", "adam=.*: a value must be a number, a text, a list or a tuple"),
        ("probe.layers=[1, {2}]", "a value must be a number, a text, a list or a tuple"),
        ("steps=many", "steps='many': the value must be of the type of 6"),
    ],
)
def test_bad_overrides(text, message):
    with pytest.raises(InputError, match=message):
        load_config("lm_adam", "smoke", overrides=parse_overrides([text]))


def test_an_override_in_brackets_is_a_tuple():
    # Contexts with overrides are keys of a cache.
    overrides = parse_overrides(["probe.layers=[1,2]", "compare=[['sgdm','adam']]"])
    assert dict(overrides) == {"probe.layers": (1, 2), "compare": (("sgdm", "adam"),)}
    assert hash(overrides)
    assert load_config("lm_adam", "smoke", overrides=overrides).probe.layers == (1, 2)


def test_an_override_twice():
    with pytest.raises(InputError, match="--override steps is given twice"):
        parse_overrides(["steps=3", "steps=4"])
