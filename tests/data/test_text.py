import numpy as np
import pytest

from hgeo.data.text import TOKENIZERS, make_sequences, read_text


def test_sequences_tile_the_text_and_targets_follow():
    text = " ".join(f"w{n % 7}" for n in range(100))
    sequences = make_sequences(text, 10, "words")
    assert sequences.tokens.shape == (9, 11)
    stream = np.concatenate([sequences.tokens[:, :-1].ravel(), sequences.tokens[-1:, -1]])
    words = [sequences.vocabulary[n] for n in stream]
    assert words == text.split()[:91]
    np.testing.assert_array_equal(sequences.tokens[:-1, -1], sequences.tokens[1:, 0])


def test_rare_words_are_unknown_and_ties_are_alphabetical():
    sequences = make_sequences("b a c a b a d e", 7, "words", vocabulary_size=3)
    assert sequences.vocabulary == ("<unk>", "a", "b")
    np.testing.assert_array_equal(sequences.tokens[0], [2, 1, 0, 1, 2, 1, 0, 0])


def test_basic_english_follows_torchtext():
    said = TOKENIZERS["basic_english"]('Don\'t "stop", he said; (now).<br />OK?')
    assert said == ["don", "'", "t", "stop", ",", "he", "said", "(", "now", ")", ".", "ok", "?"]


def test_pydoc_text_is_inside_python():
    assert len(read_text("pydoc", "", "")) > 300_000


@pytest.mark.parametrize("by_flag", [True, False])
def test_real_wikitext(data_dir, monkeypatch, by_flag):
    monkeypatch.setenv("HGEO_DATA_DIR", "/nowhere" if by_flag else data_dir)
    text = read_text("wikitext2", "valid", data_dir if by_flag else "")
    sequences = make_sequences(text, 35, "basic_english", vocabulary_size=4000)
    assert len(sequences.vocabulary) == 4000
    # 213,886 space-separated tokens in the file; torchtext's rules drop some and split others.
    assert 200_000 < sequences.tokens[:, :-1].size < 220_000
    assert sequences.tokens.max() < 4000


def test_held_out_text_has_the_training_vocabulary():
    train = make_sequences("a b a c a b", 2, "words", vocabulary_size=3)
    held_out = make_sequences("c b b a new", 2, "words", vocabulary=train.vocabulary)
    assert held_out.vocabulary == train.vocabulary == ("<unk>", "a", "b")
    np.testing.assert_array_equal(held_out.tokens, [[0, 2, 2], [2, 1, 0]])
