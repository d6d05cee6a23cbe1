"""Every workload: its examples, its weights, and the settings that it refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hgeo.data.multi30k import PAD
from hgeo.devices import make_mesh
from hgeo.errors import InputError
from hgeo.experiment.evaluation import Evaluation
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.resolve import resolve
from hgeo.experiment.shared_resources import build_resources
from hgeo.models.bert import Bert
from hgeo.models.bert_weights import read_settings, torch_names
from hgeo.workloads.registry import make_workload
from tests.experiments import run
from tests.local_data import ENGLISH
from tests.workload_configs import config_of


@pytest.mark.parametrize("name", ["lm", "translation"])
def test_random_targets(small_data, name):
    true = make_workload(config_of(name, small_data)).examples
    drawn = [
        make_workload(config_of(name, small_data, data__random_targets_seed=seed)).examples
        for seed in (0, 0, 1)
    ]
    for inputs in set(true) - {"labels"}:
        np.testing.assert_array_equal(drawn[0][inputs], true[inputs])
    np.testing.assert_array_equal(drawn[0]["labels"], drawn[1]["labels"])
    kept = true["labels"] != PAD if name == "translation" else np.ones(true["labels"].shape, bool)
    assert np.mean((drawn[0]["labels"] == true["labels"])[kept]) < 0.3
    assert np.mean((drawn[0]["labels"] == drawn[2]["labels"])[kept]) < 0.3
    np.testing.assert_array_equal(drawn[0]["labels"][~kept], true["labels"][~kept])


@pytest.mark.parametrize("name", ["lm", "translation"])
def test_random_targets_of_held_out_examples_are_no_copy_of_training(small_data, name):
    workload = make_workload(config_of(name, small_data, data__random_targets_seed=0))
    train, held_out = (arrays["labels"] for arrays in (workload.examples, workload.held_out))
    num = min(len(train), len(held_out))
    both = (train[:num] != PAD) & (held_out[:num] != PAD)
    assert both.sum() >= 8
    assert np.mean((train[:num] == held_out[:num])[both]) < 0.3


def test_pairs_that_are_cut_are_not_in_the_held_out_loss(small_data):
    config = config_of("translation", small_data)
    whole = make_workload(config)
    length = int((whole.held_out["source"] != PAD).sum(1).max())
    with config.unlocked():
        config.data.max_length = length - 1
        config.data.longer = "cut"
    cut = make_workload(config)
    counted = (cut.held_out["labels"] != PAD).any(1)
    lengths = [
        (whole.held_out[side] != PAD).sum(1) + more for side, more in (("source", 0), ("labels", 1))
    ]
    np.testing.assert_array_equal(counted, np.max(lengths, axis=0) < length)
    assert 0 < counted.sum() < len(counted)
    num = (~counted).sum()
    assert f"{num} held-out pairs longer than {length - 1} tokens are not in the loss" in cut.notes


@pytest.mark.slow
def test_parts_of_fused_projections_are_probed_beside_them(small_data):
    names = [
        name for name, _ in make_workload(config_of("translation", small_data)).layers.values()
    ]
    assert [name for name in names if name.startswith("decoder_0/cross_attention")] == [
        "decoder_0/cross_attention/in_proj/kernel",
        "decoder_0/cross_attention/out_proj/kernel",
        *(f"decoder_0/cross_attention/in_proj[{part}]" for part in "qkv"),
    ]
    size = {"model__num_blocks": 1, "model__width": 4, "model__ffn_width": 4}
    probe = {"probe__layers": (1, 101, 102, 103), "probe__num_coordinates": 48}
    config = config_of("lm", small_data, **size, **probe)
    resolved = resolve(config)
    workload = resolved.read_workload()
    variables = workload.init(jax.random.key(0))
    measure = GeometryProbe(resolved.probe, workload, variables, jax.random.key(1), make_mesh())
    whole, *parts = measure.sampled(variables).values()
    assert [part.shape for part in parts] == [(16,)] * 3
    columns = np.concatenate([part.reshape(4, 4) for part in parts], axis=1)
    np.testing.assert_allclose(columns.ravel(), whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())


def test_evaluation_without_held_out_examples(small_data):
    config = config_of("lm", small_data, data__held_out_split="", evaluation__steps=())
    Evaluation(config.evaluation.batch_size, make_workload(config), make_mesh())
    config = config_of("lm", small_data, data__held_out_split="")
    with pytest.raises(InputError, match=r"evaluation\.steps is given, but data\.held_out_split"):
        run(config, "/nowhere")


@pytest.mark.slow
def test_dropout_in_the_probed_loss_has_fixed_masks(small_data):
    size = {"model__num_blocks": 1, "model__width": 4, "model__ffn_width": 4, "probe__layers": (1,)}
    losses = []
    for dropout in (False, True):
        config = config_of(
            "lm",
            small_data,
            **size,
            model__dropout=0.5,
            probe__dropout=dropout,
            evaluation__steps=(),
        )
        setup = build_resources(resolve(config))
        losses.append([setup.probe.loss(setup.variables) for _ in range(2)])
    (plain, again), (dropped, repeated) = losses
    assert plain == again
    assert dropped == repeated
    assert abs(dropped - plain) > 1e-3


CASES = [
    ("lm", {"probe__dropout": True, "model__dropout": 0.0}, r"probe\.dropout=True needs a model"),
    ("translation", {"data__max_length": 2}, r"data\.max_length must be at least 3.*not 2"),
    ("translation", {"data__split": "dev"}, r"data\.split must be one of .*not 'dev'"),
    ("translation", {"data__longer": "keep"}, r"data\.longer must be one of .*not 'keep'"),
    ("translation", {"evaluation__beam_size": 0}, r"beam_size must be at least 1, not 0"),
    ("translation", {"model__num_heads": 5}, r"multiple of model\.num_heads.*16 and 5"),
    ("translation", {"probe__layers": (12,)}, r"probe\.layers has \[12\].*11 generator/kernel"),
    ("bert", {"data__max_length": 17}, r"max_length=17 doesn't fit.*position table of 16"),
    ("bert", {"data__source": "csv"}, r"data\.source must be one of .*not 'csv'"),
    ("bert", {"data__source": "tfds"}, r"imdb_reviews is not prepared.*tfds build imdb_reviews"),
    ("bert", {"model__width": None}, r"these must be given: model\.width"),
    ("bert", {"model__weights": "no-such-weights"}, r"no weights 'no-such-weights'"),
    ("resnet", {"probe__batch_norm": "off"}, r"batch_norm must be one of .*not 'off'"),
    ("resnet", {"probe__microbatch_size": 4}, r"microbatch_size must be None.*it is 4"),
    ("resnet", {"model__blocks": (1, 1)}, r"of one length, not \(4, 6, 8\) and \(1, 1\)"),
    ("resnet", {"data__limit": 0}, r"data\.limit must be at least 1, not 0"),
    ("lm", {"evaluation__steps": (9,)}, r"evaluation\.steps must lie in 0 to steps=6.*\[9\]"),
    ("lm", {"evaluation__batch_size": 12}, r"evaluation\.batch_size must be a multiple of the 8"),
    ("lm", {"learning_rate_schedule__kind": "cosine"}, r"kind must be one of .*not 'cosine'"),
    ("lm", {"learning_rate_schedule__kind": "step"}, r"needs drop_every of at least 1"),
    ("lm", {"max_gradient_norm": -1.0}, r"max_gradient_norm must be 0 \(none\) or more, not -1"),
    (
        "lm",
        {"adam__weight_decay": -0.1},
        r"adam\.weight_decay must be 0 or more, not -0\.1",
    ),
]


@pytest.mark.parametrize(("name", "changes", "message"), CASES, ids=lambda value: str(value)[:50])
def test_bad_settings(small_data, tmp_path, name, changes, message):
    with pytest.raises(InputError, match=message):
        run(config_of(name, small_data, **changes), tmp_path)
    assert not list(tmp_path.rglob("checkpoints"))


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """A Hugging Face style folder, its weights those of a seed that no run has."""
    folder = tmp_path_factory.mktemp("weights") / "tiny-bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *ENGLISH, "lovely", "dreadful"]
    sizes = {"vocab_size": len(words), "hidden_size": 8, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 16}
    (folder / "config.json").write_text(json.dumps({**sizes, "type_vocab_size": 2}))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    model = Bert(**read_settings(folder))
    tensors = {}
    for name, path in torch_names(model).items():
        if path.startswith("classifier"):
            continue
        leaf = model.init(jax.random.key(99), jnp.zeros((1, 4), jnp.int32))["params"]
        for part in path.split("/"):
            leaf = leaf[part]
        value = np.asarray(leaf) + 1
        tensors[name] = np.ascontiguousarray(value.T if path.endswith("kernel") else value)
    save_file(tensors, folder / "model.safetensors")
    return folder


SIZES = ("vocabulary_size", "width", "num_heads", "ffn_width", "num_blocks", "max_length")
FROM_WEIGHTS = dict.fromkeys([f"model__{key}" for key in (*SIZES, "num_types")])


def test_fine_tuning_begins_with_the_weights(small_data, weights_folder, monkeypatch):
    monkeypatch.setenv("HGEO_DATA_DIR", str(weights_folder.parent))
    for source, data_dir in ((str(weights_folder), small_data), ("tiny-bert", "")):
        if not data_dir:  # found below the data folder
            (weights_folder.parent / "aclImdb").symlink_to(f"{small_data}/aclImdb")
        changes = FROM_WEIGHTS | {"model__weights": source}
        workload = make_workload(config_of("bert", data_dir, **changes))
        params = workload.init(jax.random.key(0))["params"]
        stored = load_file(weights_folder / "model.safetensors")
        np.testing.assert_array_equal(
            params["block_1"]["output"]["kernel"],
            stored["encoder.layer.1.output.dense.weight"].T,
        )
        np.testing.assert_array_equal(params["classifier"]["bias"], 0)
        assert workload.examples["tokens"].max() < 16


def test_sizes_that_disagree_with_the_weights(small_data, weights_folder):
    changes = FROM_WEIGHTS | {"model__weights": str(weights_folder), "model__width": 16}
    with pytest.raises(InputError, match=r"model\.width is 16, of the weights 8"):
        make_workload(config_of("bert", small_data, **changes))
    changes = FROM_WEIGHTS | {"model__weights": str(weights_folder), "data__max_length": 20}
    with pytest.raises(InputError, match=r"data\.max_length=20 doesn't fit.*table of 16"):
        make_workload(config_of("bert", small_data, **changes))
