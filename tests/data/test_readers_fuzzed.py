"""Readers of text and weights on arbitrary bytes: what they say, or an `InputError`; no more."""

import gzip
import json
import struct

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hgeo.data.files import read_lines
from hgeo.data.imdb import read_reviews
from hgeo.data.multi30k import read_multi30k
from hgeo.data.text import make_sequences, read_text
from hgeo.errors import InputError
from hgeo.models.bert import Bert
from hgeo.models.bert_weights import read_settings, read_vocabulary, read_weights
from hgeo.records.run_records import LossRow, read_rows

FUZZ = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TEXTS = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text("ab \n.\r\u2028\0", max_size=60).map(str.encode),
)


def fine(call):
    try:
        return call()
    except InputError:
        return None


@FUZZ
@given(TEXTS, st.booleans(), st.booleans())
def test_lines(tmp_path, content, zipped, whole):
    path = tmp_path / ("a.gz" if zipped else "a.txt")
    path.write_bytes(gzip.compress(content) if zipped and whole else content)
    lines = fine(lambda: read_lines(path))
    if lines is not None and (whole or not zipped):
        assert "\n".join(lines) == content.decode().removesuffix("\n")


@FUZZ
@given(TEXTS, st.sampled_from(["words", "basic_english"]), st.integers(1, 4))
def test_language_model_texts(tmp_path, content, tokenizer, length):
    path = tmp_path / "wikitext-2/wiki.test.tokens"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    text = fine(lambda: read_text("wikitext2", "test", str(tmp_path)))
    if text is not None:
        made = fine(lambda: make_sequences(text, length, tokenizer, vocabulary_size=5))
        if made is not None:
            assert made.tokens.min() >= 0
            assert made.tokens.max() < len(made.vocabulary) <= 5


@FUZZ
@given(TEXTS, TEXTS)
def test_sentence_pairs(tmp_path, de, en):
    folder = tmp_path / "multi30k"
    folder.mkdir(exist_ok=True)
    (folder / "train.de").write_bytes(de)
    (folder / "train.en").write_bytes(en)
    pairs = fine(lambda: read_multi30k(str(tmp_path), "train", max_length=6, longer="cut"))
    if pairs is not None:
        assert pairs.source.max() < len(pairs.source_vocabulary)
        assert len(pairs.source) == len(pairs.target)


@FUZZ
@given(TEXTS)
def test_archives_of_reviews(tmp_path, content):
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(content)
    assert fine(lambda: read_reviews(str(tmp_path), "train", "aclImdb")) is None


@FUZZ
@given(TEXTS)
def test_records(tmp_path, content):
    header = b"optimizer,repeat,step,epoch,loss\n"
    (tmp_path / "losses.csv").write_bytes(header + b"adam,0,0,0.0,1.0\n" + content)
    read = fine(lambda: read_rows(tmp_path / "losses.csv", LossRow))
    if read is not None:
        assert read[0][0] == LossRow("adam", 0, 0, 0.0, 1.0)


SIZES = {"vocabulary_size": 6, "width": 4, "num_heads": 2, "ffn_width": 4, "num_blocks": 1}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
KEYS = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")
KEYS += ("num_hidden_layers", "max_position_embeddings", "type_vocab_size", "hidden_act")


@FUZZ
@given(st.one_of(TEXTS, st.dictionaries(st.sampled_from(KEYS), JSON).map(json.dumps)), TEXTS)
@example(b'{"vocab_size": Infinity}', b"")
@example(b"[" * 100_000, b"")
@example(json.dumps(dict.fromkeys(KEYS, 0)), b"")
def test_settings_and_vocabularies_of_weights(tmp_path, config, words):
    (tmp_path / "config.json").write_bytes(config if isinstance(config, bytes) else config.encode())
    (tmp_path / "vocab.txt").write_bytes(words)
    fine(lambda: read_settings(tmp_path))
    fine(lambda: read_vocabulary(tmp_path, 3))


@pytest.fixture(scope="module")
def bert():
    model = Bert(**SIZES, max_length=8, num_types=2, dropout=0.0)
    tokens = np.zeros((1, 4), np.int32)
    return model, model.init(jax.random.key(0), tokens, np.ones((1, 4), bool))["params"]


WHOLE = safetensors.numpy.save({"encoder.layer.0.output.dense.bias": np.ones(4, np.float32)})


@FUZZ
@given(
    st.one_of(
        TEXTS,
        st.tuples(st.integers(0, 2**63), TEXTS).map(lambda t: struct.pack("<Q", t[0]) + t[1]),
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 7)).map(
            lambda t: WHOLE[: t[0]] + bytes([WHOLE[t[0]] ^ 1 << t[1]]) + WHOLE[t[0] + 1 :]
        ),
        st.integers(0, len(WHOLE)).map(lambda n: WHOLE[:n]),
    )
)
def test_weights(tmp_path, bert, content):
    model, params = bert
    (tmp_path / "model.safetensors").write_bytes(content)
    assert fine(lambda: read_weights(tmp_path, model, params)) is None
