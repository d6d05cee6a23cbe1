"""Each bad input is one clear error before any training."""

import pathlib
import sys

import pytest
from etils import epath

from hgeo.errors import InputError
from tests.experiments import load_config, run

CASES = [
    ({"optimizers": ("sgdm", "adamm")}, r"unknown optimizer 'adamm'; known are sgd, sgdm, adam"),
    ({"optimizers": ("sgdm", "adagrad")}, r"names 'adagrad', but there is no config\.adagrad"),
    ({"optimizers": ()}, "names no optimizer"),
    ({"optimizers": ("adam", "adam")}, "names an optimizer twice"),
    ({"compare": (("sgdm", "sgd"),)}, "config.compare takes pairs"),
    ({"adam": {"learning_rate": 0.1, "beta": 1.0}}, r"config\.adam has \['beta'\].*takes only"),
    ({"adam__learning_rate": -1.0}, r"config\.adam\.learning_rate must be a positive.*-1\.0"),
    ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
    ({"batch_size": 10**6}, r"batch_size=1000000 is larger than the data, which has \d+"),
    ({"probe__batch_size": 10**6}, "probe.batch_size=1000000 is larger than the data"),
    ({"batch_size": 12}, "batch_size must be a multiple of the 8 devices, but is 12"),
    ({"probe__steps": (0, 7)}, r"probe\.steps must lie in 0 to steps=6; outside: \[7\]"),
    ({"probe__layers": (1, 10)}, r"probe\.layers has \[10\], but.*9 head/kernel"),
    ({"probe__layers": ()}, "names no layer"),
    ({"probe__num_coordinates": 0}, "num_coordinates must be a whole number of at least 1"),
    ({"workload": "gan"}, r"workload must be one of .*'lm'.*not 'gan'"),
    ({"data__source": "books"}, r"data\.source must be one of .*wikitext2.*not 'books'"),
    ({"data__tokenizer": "bpe"}, r"data\.tokenizer must be one of .*not 'bpe'"),
    ({"data__vocabulary_size": 1}, "vocabulary_size must be at least 2, not 1"),
    ({"data__sequence_length": 10**7}, "fewer than one sequence of 10000000"),
    ({"model__num_heads": 3}, "width must be a multiple of model.num_heads.*16 and 3"),
    ({"model__initializer": "he"}, "initializer must be one of .*not 'he'"),
    ({"model__gain": 2.0}, "gain must be 1.0 where model.initializer is 'torch'"),
]


@pytest.mark.parametrize(("changes", "message"), CASES, ids=[str(c[0]) for c in CASES])
def test_config(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run(load_config("quickstart", "smoke", **changes), tmp_path)
    assert not list(tmp_path.rglob("checkpoints/*"))


def test_runs_together_are_for_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(InputError, match=r"runs_together must be 1 .* several processes, not 4"):
        run(load_config("quickstart", "smoke", runs_together=4), tmp_path)


def wikitext(tmp_path, content):
    folder = tmp_path / "data" / "wikitext-2"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "wiki.test.tokens").write_bytes(content)
    return load_config("lm", "smoke", data_dir=str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no file .*wiki\.test\.tokens: unpack"),
        (b"", "is empty"),
        (b" \n \n", "is empty"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"only five words in here", "has 5 tokens, fewer than one sequence of 8"),
        (b"a b c d e f g h i j k", "batch_size=8 is larger than the data, which has 1"),
    ],
)
def test_text_files(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        run(wikitext(tmp_path, content), tmp_path / "work")


def test_no_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("HGEO_DATA_DIR", raising=False)
    with pytest.raises(InputError, match=r"give --config\.data_dir=DIR or set HGEO_DATA_DIR"):
        run(load_config("lm", "smoke"), tmp_path)


def test_unknown_split(tmp_path):
    with pytest.raises(InputError, match=r"data\.split must be one of .*not 'dev'"):
        run(load_config("lm", "smoke", data_dir=str(tmp_path), data__split="dev"), tmp_path)


def test_work_folder_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written to"):
        run(load_config("quickstart", "smoke"), pathlib.Path(tmp_path / "file" / "work"))


def test_work_folder_whose_file_system_needs_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"folder gs://bucket/work can't be written to: .*gcsfs"):
        run(load_config("quickstart", "smoke"), epath.Path("gs://bucket/work"))
