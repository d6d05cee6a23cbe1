import functools
import http.server
import threading

import pytest

from hgeo.data import builders
from hgeo.data.builders import Multi30k, Wikitext2
from hgeo.errors import InputError
from tests.data.test_multi30k import TRAIN, VAL, write

RECORDS = "array_record"


def test_multi30k(tmp_path):
    (tmp_path / "multi30k").mkdir()
    for split, sides in {"train": TRAIN, "val": VAL, "test_2016_flickr": VAL}.items():
        for language, lines in sides.items():
            write(tmp_path, f"{split}.{language}.gz", "\n".join(lines) + "\n")
    files = str(tmp_path / "multi30k")
    builder = Multi30k(files=files, data_dir=str(tmp_path / "tfds"), file_format=RECORDS)
    builder.download_and_prepare()
    pairs = {(e["de"].decode(), e["en"].decode()) for e in builder.as_data_source("train")}
    assert pairs == set(zip(TRAIN["de"], TRAIN["en"], strict=True))
    assert len(builder.as_data_source("test")) == 1


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and the address at which a local server has its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_multi30k_downloads_its_files(tmp_path, served, monkeypatch):
    folder, address = served
    (folder / "multi30k").mkdir()
    for split, sides in {"train": TRAIN, "val": VAL, "test_2016_flickr": VAL}.items():
        for language, lines in sides.items():
            write(folder, f"{split}.{language}.gz", "\n".join(lines) + "\n")
    monkeypatch.setattr(builders, "MULTI30K", address + "/multi30k/{}.{}.gz")
    builder = Multi30k(data_dir=str(tmp_path / "tfds"), file_format=RECORDS)
    builder.download_and_prepare()
    pairs = {(e["de"].decode(), e["en"].decode()) for e in builder.as_data_source("train")}
    assert pairs == set(zip(TRAIN["de"], TRAIN["en"], strict=True))


def test_wikitext2_downloads_its_files(tmp_path, served, monkeypatch):
    folder, address = served
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text(f" = {name} = \n words \n")
    monkeypatch.setattr(builders, "WIKITEXT2", address + "/{}.txt")
    builder = Wikitext2(data_dir=str(tmp_path / "tfds"), file_format=RECORDS)
    builder.download_and_prepare()
    texts = [e["text"].decode() for e in builder.as_data_source("valid")]
    assert sorted(texts) == [" = valid = ", " words "]


def test_wikitext2(tmp_path):
    lines = ["", " = Title = ", "", " some <unk> text "]
    (tmp_path / "wiki.valid.tokens").write_text("\n".join(lines) + "\n")
    settings = {"data_dir": str(tmp_path / "tfds"), "file_format": RECORDS}
    builder = Wikitext2(files=str(tmp_path), **settings)
    builder.download_and_prepare()
    assert list(builder.info.splits) == ["valid"]
    source = builder.as_data_source("valid")
    assert sorted(e["text"].decode() for e in source) == sorted(lines)
    with pytest.raises(InputError, match="holds no file wiki"):
        Wikitext2(files=str(tmp_path / "tfds"), data_dir=str(tmp_path / "b")).download_and_prepare()
