import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.errors import InputError
from hgeo.models.bert import Bert
from hgeo.models.bert_weights import (
    find_weights,
    read_settings,
    read_vocabulary,
    read_weights,
    torch_names,
)
from tests.probes.dense import quick

safetensors = pytest.importorskip("safetensors.numpy")

CONFIG = {"model_type": "bert", "vocab_size": 6, "hidden_size": 4, "num_attention_heads": 2}
CONFIG |= {"intermediate_size": 8, "num_hidden_layers": 1, "max_position_embeddings": 5}
CONFIG |= {"type_vocab_size": 2, "hidden_act": "gelu"}
TOKENS = jnp.zeros((1, 3), jnp.int32)


def model():
    return Bert(6, 2, 4, 2, 8, 1, 5)


@pytest.fixture(scope="module")
def params():
    return quick(model().init)(jax.random.key(0), TOKENS)["params"]


def tensors_of(params):
    """What a folder would hold: the params plus one, each kernel transposed."""
    tensors = {}
    for name, path in torch_names(model()).items():
        value = params
        for part in path.split("/"):
            value = value[part]
        value = np.asarray(value) + 1
        tensors[name] = np.ascontiguousarray(value.T if path.endswith("kernel") else value)
    return tensors


@pytest.fixture
def folder(tmp_path, params):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\na\nb\n")
    safetensors.save_file(tensors_of(params), tmp_path / "model.safetensors")
    return tmp_path


def test_reads_a_folder(folder, params):
    found = find_weights(str(folder))
    assert Bert(**read_settings(found)) == model()
    assert read_vocabulary(found, 6) == ("[PAD]", "[UNK]", "a", "b")
    read = read_weights(found, model(), params)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), read, params)


def test_old_names_and_prefix(folder, params):
    old = lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )
    tensors = {f"bert.{old(name)}": value for name, value in tensors_of(params).items()}
    safetensors.save_file(tensors, folder / "model.safetensors")
    read = read_weights(folder, model(), params)
    np.testing.assert_array_equal(read["block_0"]["output_norm"]["scale"], 2.0)


def test_all_that_does_not_fit_is_listed(folder, params):
    tensors = tensors_of(params)
    del tensors["pooler.dense.bias"], tensors["encoder.layer.0.output.dense.weight"]
    tensors["embeddings.position_embeddings.weight"] = np.zeros((3, 4), np.float32)
    tensors["encoder.layer.0.intermediate.dense.weight"] = np.zeros((7, 4), np.float32)
    safetensors.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError) as error:
        read_weights(folder, model(), params)
    for part in (
        "lacks ['encoder.layer.0.output.dense.weight', 'pooler.dense.bias']",
        "embeddings.position_embeddings.weight is (3, 4), not (5, 4)",
        "encoder.layer.0.intermediate.dense.weight is (7, 4), not (8, 4)",
    ):
        assert part in str(error.value)


def test_damaged_weights(folder, params):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        read_weights(folder, model(), params)


def test_pickles_are_never_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin.*never read"):
        find_weights(str(folder))


@pytest.mark.parametrize("name", ["no-such-package", "numpy", ""])
def test_no_weights(name):
    with pytest.raises(InputError, match=r"weights|holds no|lacks"):
        find_weights(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act must be 'gelu', not 'gelu_new'"),
        ({"model_type": "roberta"}, "model_type must be 'bert'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"hidden_size": "wide"}, "not a BERT config"),
    ],
)
def test_configs_of_other_models(folder, change, message):
    (folder / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(InputError, match=message):
        read_settings(folder)


def test_damaged_configs(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="lacks the key 'vocab_size'"):
        read_settings(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not a BERT config in JSON"):
        read_settings(folder)


def test_vocabulary_that_does_not_fit(folder):
    with pytest.raises(InputError, match=r"has 4 words, but .* 3 rows"):
        read_vocabulary(folder, 3)
    (folder / "vocab.txt").write_text("a\nb\na\n")
    with pytest.raises(InputError, match="twice"):
        read_vocabulary(folder, 6)
    (folder / "vocab.txt").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_vocabulary(folder, 6)


def test_sequence_longer_than_the_position_table(params):
    with pytest.raises(InputError, match=r"6 tokens.*5"):
        model().apply({"params": params}, jnp.zeros((1, 6), jnp.int32))
