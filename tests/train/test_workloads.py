"""Every workload through the one train loop, on local copies of its data."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file, save_file

import hgeo
from hgeo.data.multi30k import PAD
from hgeo.errors import InputError
from hgeo.evaluation import Evaluation
from hgeo.models.bert import Bert
from hgeo.models.bert_weights import read_settings, torch_names
from hgeo.parallel import make_mesh
from hgeo.workloads.registry import WORKLOADS, make_workload
from tests.experiments import load_config, records, run
from tests.train.local_data import ENGLISH, write_all

CHANGES = {
    "lm": {
        "data__split": "train",
        "data__vocabulary_size": None,
        "optimizers": ("adagrad", "adam"),
        "compare": (("adagrad", "adam"),),
        "probe__layers": (2, 7),
    },
    "translation": {"data__vocabulary_size": None, "probe__layers": (2, 7, 11)},
    "bert": {"data__source": "aclImdb", "model__vocabulary_size": 60, "probe__layers": (6, 13)},
    "resnet": {"probe__layers": (1, 6, 10)},
}
BATCH_NORM = {"resnet-evaluation": {"probe__batch_norm": "evaluation"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_all(root)
    return str(root)


def config_of(name, data, **changes):
    name, *variant = name.split("-")
    changes = CHANGES[name] | (BATCH_NORM[f"{name}-{variant[0]}"] if variant else {}) | changes
    return load_config(name, "smoke", data_dir=data, **changes)


@pytest.fixture(scope="module", params=[*WORKLOADS, *BATCH_NORM])
def finished(request, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = config_of(request.param, data)
    finite, said = run(config, folder)
    assert finite
    return config, folder, said


def rows(folder, name):
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def variables_at(folder, optimizer, step, like):
    manager = ocp.CheckpointManager((folder / f"runs/{optimizer}/repeat_0/checkpoints").absolute())
    stored = manager.restore(step, args=ocp.args.StandardRestore())["variables"]
    manager.close()
    return jax.tree.map(lambda leaf, value: jnp.asarray(value, leaf.dtype), like, stored)


def mean_over_devices(workload, variables, batch):
    """The loss of the whole batch on one device that stands for all."""
    on_one = jax.vmap(lambda batch: workload.loss(variables, batch), axis_name="data")
    value = on_one(jax.tree.map(lambda x: x[None], batch))
    return value.total[0] / value.weight[0]


def test_recorded_curvature_is_that_of_the_checkpoint(finished):
    """A dense Hessian of the checkpointed variables gives the recorded numbers."""
    config, folder, _ = finished
    workload = make_workload(config)
    variables = variables_at(folder, "adam", 6, workload.init(jax.random.key(0)))
    names = [workload.layer_paths[number - 1] for number in config.probe.layers]
    layers = hgeo.find_layers(variables["params"], names)
    key = jax.random.split(jax.random.key(config.seed), 3)[1]
    coordinates = hgeo.sample_coordinates(layers, config.probe.num_coordinates, key)
    order = np.random.default_rng([config.seed, 0xBA7C]).permutation(workload.num_examples)
    chosen = np.sort(order[: config.probe.batch_size])
    batch = {name: jnp.asarray(array[chosen]) for name, array in workload.examples.items()}

    recorded = {
        (r["layer"], r["statistic"]): float(r["value"])
        for r in rows(folder, "geometry")
        if (r["optimizer"], r["step"]) == ("adam", "6")
    }
    for name in names:
        at = coordinates[name].indices
        layer, vector = layers[name], layers[name].ravel(variables["params"])

        def of_entries(values, layer=layer, vector=vector, at=at):
            params = layer.replace(variables["params"], vector.at[at].set(values))
            with jax.numpy_dtype_promotion("standard"):
                return mean_over_devices(workload, {**variables, "params": params}, batch)

        dense = np.abs(jnp.diagonal(jax.jit(jax.hessian(of_entries))(vector[at])))
        np.testing.assert_allclose(recorded[name, "max_abs"], dense.max(), rtol=2e-3)
        np.testing.assert_allclose(
            recorded[name, "median_abs"], np.median(dense), rtol=2e-3, atol=1e-4 * dense.max()
        )


@pytest.mark.slow
def test_one_device_gives_the_numbers_of_eight(finished, tmp_path, monkeypatch):
    config, folder, _ = finished
    with monkeypatch.context() as patch:
        patch.setattr("hgeo.setup.make_mesh", lambda: make_mesh(jax.devices()[:1]))
        run(config, tmp_path)
    for name, column in (("losses", "loss"), ("geometry", "value"), ("evaluation", "value")):
        for one, eight in zip(rows(tmp_path, name), rows(folder, name), strict=True):
            assert one.keys() == eight.keys()
            np.testing.assert_allclose(
                float(one[column]), float(eight[column]), rtol=5e-3, atol=1e-6, err_msg=str(one)
            )


def test_evaluation_counts_every_held_out_example_once(finished):
    config, folder, _ = finished
    workload = make_workload(config)
    variables = variables_at(folder, "adam", 6, workload.init(jax.random.key(0)))
    count = len(next(iter(workload.held_out.values())))
    assert count % config.evaluation.batch_size, "the last piece should be filled up"
    held_out = jax.tree.map(jnp.asarray, workload.held_out)
    metrics = workload.metrics(variables, held_out)
    recorded = {
        r["metric"]: float(r["value"])
        for r in rows(folder, "evaluation")
        if (r["optimizer"], r["step"]) == ("adam", "6")
    }
    for name, (total, weight) in metrics.items():
        assert total.shape == weight.shape == (count,)
        np.testing.assert_allclose(recorded[name], total.sum() / weight.sum(), rtol=1e-5)
    assert set(recorded) - set(metrics) == ({"bleu"} if config.workload == "translation" else set())


def test_a_resumed_run_ends_with_the_same_numbers(data, tmp_path, monkeypatch):
    config = config_of("resnet", data, checkpoint_every=2, optimizers=("adam",), compare=())
    run(config, tmp_path / "calm")
    calls = []

    def stop_after_two(self, step, state, original=ocp.CheckpointManager.save):
        calls.append(step)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self._manager, step, args=ocp.args.StandardSave(state), force=True)

    with monkeypatch.context() as patch:
        patch.setattr("hgeo.checkpoints.Checkpoints.save", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "losses.csv").exists()
    run(config, tmp_path / "stopped")
    assert records(tmp_path / "stopped") == records(tmp_path / "calm")


def test_losses_fall_under_every_optimizer(data, tmp_path):
    names = ("sgd", "sgdm", "adam", "rmsprop", "amsgrad")
    config = config_of(
        "translation",
        data,
        steps=60,
        optimizers=names,
        compare=(),
        probe__steps=(),
        evaluation__steps=(),
    )
    finite, _ = run(config, tmp_path)
    assert finite
    losses = rows(tmp_path, "losses")
    for name in names:
        curve = [float(r["loss"]) for r in losses if r["optimizer"] == name]
        assert len(curve) == 60
        assert np.mean(curve[-5:]) < 0.9 * np.mean(curve[:3]), name


@pytest.mark.parametrize("name", ["lm", "translation"])
def test_random_targets(data, name):
    true = make_workload(config_of(name, data)).examples
    drawn = [
        make_workload(config_of(name, data, data__random_targets_seed=seed)).examples
        for seed in (0, 0, 1)
    ]
    for inputs in set(true) - {"labels"}:
        np.testing.assert_array_equal(drawn[0][inputs], true[inputs])
    np.testing.assert_array_equal(drawn[0]["labels"], drawn[1]["labels"])
    kept = true["labels"] != PAD if name == "translation" else np.ones(true["labels"].shape, bool)
    assert np.mean((drawn[0]["labels"] == true["labels"])[kept]) < 0.3
    assert np.mean((drawn[0]["labels"] == drawn[2]["labels"])[kept]) < 0.3
    np.testing.assert_array_equal(drawn[0]["labels"][~kept], true["labels"][~kept])


def test_training_moves_batch_statistics_and_says_the_mode(data, tmp_path):
    config = config_of("resnet", data)
    _, said = run(config, tmp_path)
    assert "BatchNorm in train mode" in said
    start = make_workload(config).init(jax.random.key(0))
    end = variables_at(tmp_path, "sgdm", 6, start)
    for before, after in zip(
        jax.tree.leaves(start["batch_stats"]), jax.tree.leaves(end["batch_stats"]), strict=True
    ):
        assert not np.allclose(before, after)


def test_evaluation_without_held_out_examples(data):
    config = config_of("lm", data, data__held_out_split="", evaluation__steps=())
    Evaluation(config, make_workload(config), make_mesh())
    config = config_of("lm", data, data__held_out_split="")
    with pytest.raises(InputError, match=r"evaluation\.steps is given, but data\.held_out_split"):
        run(config, "/nowhere")


CASES = [
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
def test_bad_settings(data, tmp_path, name, changes, message):
    with pytest.raises(InputError, match=message):
        run(config_of(name, data, **changes), tmp_path)
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


def test_fine_tuning_begins_with_the_weights(data, weights_folder, monkeypatch):
    monkeypatch.setenv("HGEO_DATA_DIR", str(weights_folder.parent))
    for source, data_dir in ((str(weights_folder), data), ("tiny-bert", "")):
        if not data_dir:  # found below the data folder
            (weights_folder.parent / "aclImdb").symlink_to(f"{data}/aclImdb")
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


def test_sizes_that_disagree_with_the_weights(data, weights_folder):
    changes = FROM_WEIGHTS | {"model__weights": str(weights_folder), "model__width": 16}
    with pytest.raises(InputError, match=r"model\.width is 16, of the weights 8"):
        make_workload(config_of("bert", data, **changes))
    changes = FROM_WEIGHTS | {"model__weights": str(weights_folder), "data__max_length": 20}
    with pytest.raises(InputError, match=r"data\.max_length=20 doesn't fit.*table of 16"):
        make_workload(config_of("bert", data, **changes))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_on_real_data(data_dir, tmp_path, name):
    config = load_config(
        name,
        "smoke",
        data_dir=data_dir,
        optimizers=("adam",),
        compare=(),
        probe__steps=(6,),
        probe__layers=(3, 6),
    )
    finite, _ = run(config, tmp_path)
    assert finite
    layers = {row["layer"] for row in rows(tmp_path, "geometry")}
    assert len(layers) == len(config.probe.layers)
    assert rows(tmp_path, "evaluation")
