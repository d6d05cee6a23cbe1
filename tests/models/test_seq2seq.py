import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.errors import InputError
from hgeo.models.decoding import beam_search, bleu, greedy_decode, words_of
from hgeo.models.seq2seq import Seq2Seq, token_loss
from tests.probes.dense import quick, slow

PAD, BOS, EOS = 1, 2, 3


def small(**changes):
    settings = {
        "source_size": 11,
        "target_size": 7,
        "width": 8,
        "num_heads": 2,
        "ffn_width": 12,
        "num_encoder_blocks": 1,
        "num_decoder_blocks": 1,
        "gain": 2.0,
    }
    return Seq2Seq(**(settings | changes))


SOURCE = jnp.array([[4, 5, 6, 3, 1], [9, 3, 1, 1, 1]])
TARGET = jnp.array([[2, 5, 6, 4, 1], [2, 4, 1, 1, 1]])


@pytest.fixture(scope="module")
def params():
    return quick(small().init)(jax.random.key(0), SOURCE, TARGET)["params"]


@pytest.fixture(scope="module")
def apply(params):
    return quick(lambda source, target: small().apply({"params": params}, source, target))


def test_padding_and_the_future_change_nothing(apply):
    logits = apply(SOURCE, TARGET)
    wider = jnp.pad(SOURCE, ((0, 0), (0, 2)), constant_values=PAD)
    np.testing.assert_allclose(apply(wider, TARGET), logits, atol=1e-5)
    np.testing.assert_allclose(apply(SOURCE, TARGET[:, :2]), logits[:, :2], atol=1e-5)
    other = TARGET.at[:, 3].set(6)
    assert jnp.abs(apply(SOURCE, other)[:, 3] - logits[:, 3]).max() > 1e-3
    np.testing.assert_array_equal(apply(SOURCE, other)[:, :3], logits[:, :3])


@pytest.mark.slow
def test_a_sentence_of_padding_alone_gives_no_nan(params):
    def loss(params, batch):
        logits = small().apply({"params": params}, batch["source"], batch["target"][:, :-1])
        return token_loss(logits, batch["target"][:, 1:], PAD)

    batch = {"source": jnp.full_like(SOURCE, PAD), "target": TARGET}
    attended = ("encoder_0/attention", "decoder_0/self_attention", "decoder_0/cross_attention")
    layers = hgeo.find_layers(params, [f"{name}/in_proj/kernel" for name in attended])
    coordinates = hgeo.sample_coordinates(layers, 2, jax.random.key(1))
    diagonal = quick(lambda p, b: hgeo.sampled_diagonal(loss, p, b, coordinates))(params, batch)
    assert all(np.isfinite(values).all() for values in diagonal.values())
    everything = {"source": batch["source"], "target": jnp.full_like(TARGET, PAD)}
    assert quick(loss)(params, everything) == (0.0, 0.0)


def test_loss_ignores_padding(apply):
    logits = apply(SOURCE, TARGET)
    labels = jnp.array([[5, 6, 4, 3, 1], [4, 3, 1, 1, 1]])
    total, weight = token_loss(logits, labels, PAD)
    logp = np.asarray(jax.nn.log_softmax(logits))
    by_hand = [logp[b, t, labels[b, t]] for b, t in np.argwhere(np.asarray(labels) != PAD)]
    assert weight == len(by_hand) == 6
    np.testing.assert_allclose(total, -np.sum(by_hand), rtol=1e-5)


@pytest.mark.parametrize("scheme", slow(["torch", "xavier_uniform", "xavier_normal"], ["torch"]))
def test_initialisers(scheme):
    model = small(width=64, initializer=scheme, gain=1.0, source_size=500)
    params = quick(model.init)(jax.random.key(0), SOURCE, TARGET)["params"]
    xavier = lambda a, b: (2 / (a + b)) ** 0.5
    cross = params["decoder_0"]["cross_attention"]["in_proj"]["kernel"]
    np.testing.assert_allclose(jnp.std(cross), xavier(64, 192), rtol=0.05)
    embedding = 1.0 if scheme == "torch" else xavier(64, 500)
    np.testing.assert_allclose(
        jnp.std(params["source_embedding"]["embedding"]), embedding, rtol=0.05
    )


def test_dropout_by_flag(params, apply):
    model = small(dropout=0.5)
    dropped = quick(
        lambda key: model.apply(
            {"params": params}, SOURCE, TARGET, deterministic=False, rngs={"dropout": key}
        )
    )
    assert jnp.abs(dropped(jax.random.key(0)) - dropped(jax.random.key(1))).max() > 1e-3
    still = quick(lambda params: model.apply({"params": params}, SOURCE, TARGET))(params)
    np.testing.assert_allclose(still, apply(SOURCE, TARGET), rtol=1e-6)


def test_paper_order_has_30_layers_and_the_generator():
    order = small(num_encoder_blocks=3, num_decoder_blocks=3).layer_order()
    assert len(order) == 31
    assert order[14] == "decoder_0/cross_attention/in_proj/kernel"
    assert order[20] == "decoder_1/cross_attention/in_proj/kernel"


def test_width_that_heads_do_not_divide():
    with pytest.raises(InputError, match="8 and 3"):
        small(num_heads=3).init(jax.random.key(0), SOURCE, TARGET)


@jax.jit
def log_probabilities(params, source, prefix):
    logits = small().apply({"params": params}, source[None], prefix[None])
    return jax.nn.log_softmax(logits[0])


def padded(prefix, length):
    return jnp.array([*prefix, *[PAD] * (length - len(prefix))])


def log_probability(params, source, sentence):
    logp = log_probabilities(params, source, padded(sentence[:-1], 6))
    return sum(float(logp[t, token]) for t, token in enumerate(sentence[1:]))


def test_wide_beam_is_exhaustive_search(params):
    """With a beam as wide as all prefixes, the best of all sentences of at most 4 tokens."""
    found, scores = beam_search(
        params, SOURCE[:1], model=small(), max_length=3, beam_size=7, length_penalty=0.7
    )
    words = [0, 4, 5, 6]
    sentences = [[BOS, EOS]] + [[BOS, a, b] for a, b in itertools.product(words, [*words, EOS])]
    ranked = {
        tuple(s): log_probability(params, SOURCE[0], s) / ((4 + len(s)) / 6) ** 0.7
        for s in sentences
    }
    best = max(ranked, key=ranked.get)
    assert tuple(int(t) for t in found[0, 0] if t != PAD) == best
    np.testing.assert_allclose(scores[0, 0], ranked[best], rtol=1e-5)


def test_greedy_takes_the_most_likely_token(params):
    found = greedy_decode(params, SOURCE, model=small(), max_length=6)
    for source, tokens in zip(SOURCE, np.asarray(found), strict=True):
        prefix = [BOS]
        while len(prefix) < 6 and prefix[-1] != EOS:
            scores = np.array(log_probabilities(params, source, padded(prefix, 6)))
            scores = scores[len(prefix) - 1]
            scores[[PAD, BOS]] = -np.inf
            prefix.append(int(scores.argmax()))
        assert [*prefix, *[PAD] * (6 - len(prefix))] == tokens.tolist()


def test_bad_decoding():
    with pytest.raises(InputError, match="beam_size must be 1 to 7, not 0"):
        beam_search({}, SOURCE, model=small(), max_length=4, beam_size=0)
    with pytest.raises(InputError, match="at least 2"):
        greedy_decode({}, SOURCE, model=small(), max_length=1)


def test_words_and_bleu():
    pytest.importorskip("sacrebleu")
    vocabulary = ("<unk>", "<pad>", "<bos>", "<eos>", "a", "dog", "runs")
    assert words_of([2, 4, 5, 6, 3, 1], vocabulary) == ["a", "dog", "runs"]
    sentence = "a dog runs on the grass"
    assert bleu([sentence], [sentence]) == pytest.approx(100)
    assert bleu([sentence], ["nothing of that at all here"]) < 10
    with pytest.raises(InputError, match="1 and 0"):
        bleu([sentence], [])
