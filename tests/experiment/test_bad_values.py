"""The table of bad inputs: each is one error that gives the value and what is allowed."""

import gzip
import io
import json
import pathlib
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.data.cifar10 import make_images, read_cifar10
from hgeo.data.files import read_lines
from hgeo.data.imdb import cut_vocabulary, encode_reviews, read_imdb, read_reviews
from hgeo.data.multi30k import read_multi30k
from hgeo.data.prepared import read_prepared
from hgeo.data.random_targets import random_targets
from hgeo.data.text import make_sequences, read_text
from hgeo.errors import InputError
from hgeo.experiment.resolve import resolve
from hgeo.experiment.step_spec import as_steps
from hgeo.experiment.tuning import tuning_config, with_tuned_rates
from hgeo.experiment.work_folder import WorkFolder
from hgeo.models.bert_weights import find_weights, read_settings, read_vocabulary
from hgeo.optimizers import make_optimizer
from hgeo.statistics.low_rank import low_rank
from hgeo.statistics.r_med import r_med
from hgeo.training.checkpoints import Checkpoints
from hgeo.workloads.registry import make_workload
from tests.experiments import load_config

NAN = float("nan")
CONFIGS = [
    ({"steps": 0}, r"steps must be a whole number of at least 1, not 0"),
    ({"steps": 2.5}, r"steps must be a whole number of at least 1, not 2\.5"),
    ({"batch_size": -8}, r"batch_size must be a whole number of at least 1, not -8"),
    ({"repeats": 0}, r"repeats must be a whole number of at least 1, not 0"),
    ({"runs_together": 0}, r"runs_together must be a whole number of at least 1, not 0"),
    ({"checkpoint_every": -1}, r"checkpoint_every must be a whole number of at least 0, not -1"),
    ({"max_gradient_norm": -1.0}, r"max_gradient_norm must be 0 \(none\) or more, not -1\.0"),
    ({"max_gradient_norm": NAN}, r"max_gradient_norm must be 0 \(none\) or more, not nan"),
    ({"keep_checkpoints": "some"}, r"must be one of \('all', 'measured'\), not 'some'"),
    ({"seed": -1}, r"seed must be a whole number of at least 0, not -1"),
    ({"probe__precision": "hihgest"}, r"precision must be None, 'highest'.*not 'hihgest'"),
    ({"share": "0/2"}, r"share must be 'i/n' with i from 1 to n, not '0/2'"),
    ({"share": "half"}, r"share must be 'i/n' with i from 1 to n, not 'half'"),
    ({"probe_only": "../up"}, r"probe_only must be a name of letters.*not '\.\./up'"),
    ({"optimizers": ()}, r"config\.optimizers names no optimizer"),
    ({"optimizers": ("adam", "adam")}, r"names an optimizer twice: \('adam', 'adam'\)"),
    ({"optimizers": ("adamm",)}, r"unknown optimizer 'adamm'; known are sgd, sgdm, adam"),
    ({"optimizers": ("lion",)}, r"names 'lion', but there is no config\.lion"),
    ({"compare": (("sgdm",),)}, r"takes pairs of config\.optimizers \('sgdm', 'adam'\), not"),
    ({"adam__learning_rate": 0.0}, r"config\.adam\.learning_rate must be a positive.*0\.0"),
    ({"adam__learning_rate": float("nan")}, r"config\.adam\.learning_rate must be .*nan"),
    ({"adam__learning_rate": float("inf")}, r"config\.adam\.learning_rate must be .*inf"),
    ({"adam__eps": -1e-8}, r"config\.adam\.eps must be 0 or more, not -1e-08"),
    ({"adam__weight_decay": -0.1}, r"config\.adam\.weight_decay must be 0 or more, not -0\.1"),
    ({"adam__b1": 1.5}, r"config\.adam\.b1 must lie in \[0, 1\), not 1\.5"),
    ({"sgdm__momentum": -0.5}, r"config\.sgdm\.momentum must lie in \[0, 1\), not -0\.5"),
    ({"adam": {"learning_rate": 0.1, "beta": 1.0}}, r"config\.adam has \['beta'\].*takes only"),
    ({"learning_rate_schedule__kind": "cosine"}, r"kind must be one of .*not 'cosine'"),
    ({"probe__steps": (0, 7)}, r"probe\.steps must lie in 0 to steps=6; outside: \[7\]"),
    ({"evaluation__steps": (6,)}, r"data\.held_out_split names no split"),
    ({"probe__layers": ()}, r"probe\.layers names no layer"),
    ({"probe__layers": (1, 1)}, r"probe\.layers must be .*, each once, not \(1, 1\)"),
    ({"probe__layers": (1, "2")}, r"probe\.layers must be layers' numbers.*not \(1, '2'\)"),
    ({"probe__num_coordinates": 0}, r"probe\.num_coordinates must be a whole .*1, not 0"),
    ({"probe__batch_size": 0}, r"probe\.batch_size must be a whole number of at least 1, not 0"),
    ({"probe__statistics": ("r_max",)}, r"must name some of \('r_med',.*not \('r_max',\)"),
    ({"probe__statistics": ()}, r"must name some of .*not \(\)"),
    ({"probe__statistics": ("r_med", "r_med")}, r"must name each once, not \('r_med', 'r_med'\)"),
    ({"probe__eps": NAN}, r"probe\.eps must be 0 or more, not nan"),
    ({"probe__eps": -1e-3}, r"probe\.eps must be 0 or more, not -0\.001"),
    ({"probe__dropout": 1}, r"probe\.dropout must be True or False, not 1"),
    ({"probe__low_rank_share": 1.5}, r"low_rank_share must lie in \(0, 1\], not 1\.5"),
    ({"probe__num_matvecs": 0}, r"probe\.num_matvecs must be a whole .*at least 1, not 0"),
    ({"probe__num_samples": 1}, r"probe\.num_samples must be a whole .*at least 2, not 1"),
    ({"same_loss__by": "test"}, r"same_loss\.by must be one of .*'probe'\), not 'test'"),
    ({"same_loss__window": 0}, r"same_loss\.window must be a whole .*at least 1, not 0"),
    ({"same_loss__of": "sgd"}, r"same_loss\.of must be one of .*'sgdm', 'adam'.*not 'sgd'"),
    ({"same_loss__of": "adam"}, r"'adam' must be the first of config\.optimizers"),
    ({"same_loss__of": "sgdm", "same_loss__losses": (1.0,)}, r"give one of them"),
    ({"same_loss__of": "sgdm", "share": "2/2"}, r"share='2/2' and same_loss\.of='sgdm': a share"),
    ({"same_loss__losses": ("abc",)}, r"same_loss\.losses must be finite .*not \('abc',\)"),
    ({"same_loss__losses": (2.0, NAN)}, r"same_loss\.losses must be finite .*not \(2\.0, nan\)"),
    ({"same_loss__losses": (True,)}, r"same_loss\.losses must be finite numbers, not \(True,\)"),
    (
        {"same_loss__losses": (2.00000000001, 2.0)},
        r"same_loss\.losses must .* nine digits, not \(2\.00000000001, 2\.0\)",
    ),
]


@pytest.mark.parametrize(("changes", "message"), CONFIGS, ids=[str(c[0]) for c in CONFIGS])
def test_configs(monkeypatch, changes, message):
    monkeypatch.setattr("hgeo.experiment.resolve.make_workload", None)  # seen without the data
    with pytest.raises(InputError, match=message):
        resolve(load_config("quickstart", "smoke", **changes))


def config(**changes):
    return load_config("quickstart", "smoke", **changes)


def file(path: pathlib.Path, content: bytes | str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def weights(folder, **files):
    names = {"config": "config.json", "weights": "model.safetensors", "words": "vocab.txt"}
    for key, content in files.items():
        file(folder / names.get(key, key), content)
    return folder


def tar(path, name, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, 0
        archive.addfile(member, io.BytesIO())
    return path.parent


def pairs(folder, de, en, **more):
    file(folder / "multi30k/train.de.gz", gzip.compress(de.encode()))
    file(folder / "multi30k/train.en.gz", gzip.compress(en.encode()))
    return read_multi30k(str(folder), "train", **{"max_length": 9, **more})


BERT = {"vocab_size": 9, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 4}
BERT |= {"num_hidden_layers": 1, "max_position_embeddings": 8, "type_vocab_size": 2}
PIXELS = np.zeros((2, 32, 32, 3), np.uint8)
KERNEL = {"kernel": jnp.ones((3, 2))}


def one_tuned(t):
    path = str(file(t / "tuning.json", '{"optimizer": "sgd", "best": 0.1}'))
    return with_tuned_rates(config(adam__learning_rate_from=path))


def a_checkpoint(t):
    own = Checkpoints(t / "checkpoints")
    own.save(0, {"a": jnp.ones(3)})
    own.close()
    for path in (t / "checkpoints/0").rglob("d/*"):
        path.write_bytes(b"")
    try:
        own = Checkpoints(t / "checkpoints")
        own.restore(0, {"a": jnp.ones(3)})
    finally:
        own.close()


def coordinates(num=3):
    return hgeo.sample_coordinates(hgeo.find_layers(KERNEL), num, jax.random.key(0))


def diagonal(**options):
    loss = lambda params, batch: jnp.mean(jnp.tanh(batch @ params["kernel"]) ** 2)
    return hgeo.sampled_diagonal(loss, KERNEL, jnp.ones((4, 3)), coordinates(), **options)


OTHERS = [
    # Config files' values that are seen with the data.
    (lambda t: make_workload(config(workload="gan")), r"workload must be one of .*not 'gan'"),
    (
        lambda t: make_workload(config(model__num_heads=3)),
        r"multiple of model\.num_heads.*16 and 3",
    ),
    (lambda t: as_steps("probe.steps", ("3 days",), 6, 9), r"percentages.*not '3 days'"),
    (lambda t: tuning_config(config(), "lion", [1, 2]), r"there is no config\.lion to tune"),
    (lambda t: tuning_config(config(), "adam", [1.0]), r"two or more learning rates.*\[1\.0\]"),
    (one_tuned, r"is the tuning of 'sgd', not of 'adam'"),
    (lambda t: with_tuned_rates(config(adam__learning_rate_from="none")), r"not a tuning result"),
    (lambda t: make_optimizer("adam", {"learning_rate": "fast"}), r"learning_rate.*'fast'"),
    # Data files.
    (lambda t: read_lines(t / "none.txt"), r"no file .*none\.txt"),
    (lambda t: read_lines(file(t / "a.gz", b"plain")), r"a\.gz is not a whole gzip file"),
    (lambda t: read_lines(file(t / "a.txt", b"\xff")), r"a\.txt is not UTF-8"),
    (lambda t: read_lines(file(t / "a.txt", b"")), r"a\.txt is empty"),
    (lambda t: read_text("books", "", ""), r"data\.source must be one of .*not 'books'"),
    (lambda t: read_text("wikitext2", "dev", str(t)), r"data\.split must be one of .*not 'dev'"),
    (lambda t: read_text("wikitext2", "test", str(t)), r"no file .*wiki\.test\.tokens: unpack"),
    (lambda t: make_sequences("a b", 8, "words"), r"has 2 tokens, fewer than one sequence of 8"),
    (lambda t: make_sequences("a b", 0, "words"), r"sequence_length must be at least 1, not 0"),
    (lambda t: make_sequences("a b", 1, "bpe"), r"data\.tokenizer must be one of .*not 'bpe'"),
    (lambda t: random_targets(np.zeros((2, 2)), 5, -1), r"seed .* must be 0 or more, not -1"),
    (lambda t: pairs(t, "ein\nzwei\n", "one\n"), r"has 2 lines and .* has 1"),
    (lambda t: pairs(t, "ein\n", "one\n", max_length=2), r"max_length must be at least 3.*not 2"),
    (lambda t: pairs(t, "ein\n", "one\n", longer="fold"), r"data\.longer must be one of .*'fold'"),
    (lambda t: pairs(t, "a b c\n", "d\n", max_length=3), r"no pair is as short as .*=3"),
    (lambda t: read_multi30k(str(t), "train", max_length=9), r"no file .*train\.de\.gz: put"),
    (lambda t: read_imdb(str(t), "train", max_length=2), r"max_length must be at least 3.*not 2"),
    (lambda t: read_reviews(str(t), "dev", "tfds"), r"data\.split must be one of .*not 'dev'"),
    (lambda t: read_reviews(str(t), "train", "csv"), r"data\.source must be one of .*not 'csv'"),
    (lambda t: read_reviews(str(t), "train", "aclImdb"), r"no aclImdb in .*: put aclImdb_v1"),
    (
        lambda t: read_reviews(str(file(t / "aclImdb.tar.gz", b"x").parent), "train", "aclImdb"),
        r"aclImdb\.tar\.gz is not a whole tar\.gz archive",
    ),
    (
        lambda t: read_reviews(str(tar(t / "aclImdb.tar.gz", "a.txt")), "train", "aclImdb"),
        r"has no reviews aclImdb/train/neg/ID_RATING\.txt",
    ),
    (lambda t: cut_vocabulary(["a"], 5), r"more than the 5 special pieces, not 5"),
    (lambda t: encode_reviews(["a"], ["a"], 5), r"1 word pieces lacks \['\[PAD\]'"),
    (lambda t: read_cifar10(str(t), "dev"), r"data\.split must be one of .*not 'dev'"),
    (lambda t: read_cifar10(str(t), "test", 0), r"data\.limit must be at least 1, not 0"),
    (
        lambda t: read_prepared("cifar10", "test", str(t)),
        r"cifar10 is not prepared in .*tfds",
    ),
    (lambda t: make_images(PIXELS[:, :9], np.zeros(2, int)), r"must be uint8 of shape .*9, 32"),
    (lambda t: make_images(PIXELS, np.array([0, 10])), r"labels must be 0 to 9; 1 are not.*10"),
    (lambda t: make_images(PIXELS, np.zeros(3, int)), r"one label for each of 2 examples"),
    # Weights.
    (lambda t: find_weights("no-such-package"), r"no weights 'no-such-package': give a folder"),
    (lambda t: find_weights("numpy"), r"'numpy' holds no model\.safetensors"),
    (lambda t: find_weights(str(weights(t, config="{}"))), r"lacks \['model\.safetensors'"),
    (
        lambda t: find_weights(str(weights(t, **{"pytorch_model.bin": b"\x80"}))),
        r"\['pytorch_model\.bin'\] may run code and are never read: save safetensors",
    ),
    (lambda t: read_settings(weights(t, config="{")), r"config\.json is not a BERT config in JSON"),
    (lambda t: read_settings(weights(t, config="[]")), r"config\.json is not a BERT config"),
    (lambda t: read_settings(weights(t, config="{}")), r"config\.json lacks the key 'vocab_size'"),
    (
        lambda t: read_settings(weights(t, config=json.dumps({**BERT, "hidden_act": "relu"}))),
        r"hidden_act must be 'gelu', not 'relu'",
    ),
    (lambda t: read_vocabulary(weights(t, words="a\na\n"), 5), r"holds a word twice"),
    (lambda t: read_vocabulary(weights(t, words="a\nb\n"), 1), r"has 2 words, but .* has 1 rows"),
    (lambda t: read_vocabulary(weights(t, words=b"\xff\n"), 1), r"vocab\.txt is not UTF-8"),
    # Checkpoints and work folders.
    (a_checkpoint, r"holds no checkpoint that can be trusted \(step 0: "),
    (lambda t: WorkFolder(file(t / "file", "") / "work"), r"work folder .* can't be written to"),
    # The library.
    (lambda t: coordinates(0), r"num must be at least 1, not 0"),
    (lambda t: hgeo.find_layers({"n": jnp.array(1)}), r"no floating leaf"),
    (lambda t: hgeo.find_layers(KERNEL, "decoder"), r"select='decoder'.*kernel"),
    (lambda t: diagonal(mode="jet"), r"adjoint_weighted.*not 'jet'"),
    (lambda t: diagonal(chunk_size=0), r"chunk_size must be at least 1, not 0"),
    (lambda t: diagonal(microbatch_size=0), r"microbatch_size must be at least 1, not 0"),
    (lambda t: diagonal(memory_budget=0), r"memory_budget must be at least 1 byte, not 0"),
    (lambda t: r_med(jnp.ones(3), eps=-1.0), r"eps must not be negative, but is -1\.0"),
    (lambda t: low_rank(jnp.ones((2, 2)), 2.0), r"share.*2\.0"),
    (lambda t: low_rank(jnp.ones(2), 0.9), r"\(2,\)"),
]


@pytest.mark.parametrize(("call", "message"), OTHERS, ids=[c[1] for c in OTHERS])
def test_others(tmp_path, monkeypatch, call, message):
    monkeypatch.delenv("HGEO_DATA_DIR", raising=False)
    with pytest.raises((ValueError, TypeError), match=message):
        call(tmp_path)


def test_the_table_is_long():
    assert len(CONFIGS) + len(OTHERS) >= 60
