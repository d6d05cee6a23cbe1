"""Nothing runs code from a file, leaves its folder, or listens; names can't become markup."""

import ast
import io
import pathlib
import tarfile

import numpy as np
import pytest
from etils import epath
from rich.console import Console

from hgeo.data.imdb import read_reviews
from hgeo.errors import InputError
from hgeo.models.bert_weights import find_weights
from hgeo.records.rows import LossRow, NotFiniteRow
from hgeo.records.run_records import RunRecords
from hgeo.report import write_report
from tests.experiments import ROOT, load_config, summary_of


def calls(name):
    """Calls of a function or method of that name in the package: (file, node)."""
    for path in [*(ROOT / "hgeo").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else None
                called = node.func.id if isinstance(node.func, ast.Name) else called
                if called == name:
                    yield path, node


def test_no_module_loads_pickles():
    for path in [*(ROOT / "hgeo").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] not in ("pickle", "dill", "joblib", "marshal"), path


def test_every_numpy_file_is_read_without_pickle():
    found = [
        node
        for path, node in calls("load")
        if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "np"
    ]
    assert found
    for node in found:
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        assert given["allow_pickle"].value is False


class Bomb:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("exploded"),)


def test_a_pickle_among_a_runs_arrays_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "0.npz", diagonal=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        RunRecords(tmp_path).read_arrays(0)
    assert not (tmp_path / "exploded").exists()


def test_pickled_weights_are_refused_by_name(tmp_path):
    for name in ("config.json", "vocab.txt", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(InputError, match="may run code and are never read"):
        find_weights(str(tmp_path))


def test_nothing_is_unpacked_from_an_archive(tmp_path):
    """Neither paths that lead out of the folder nor links in an archive write anything."""
    data = tmp_path / "data"
    data.mkdir()
    with tarfile.open(data / "aclImdb_v1.tar.gz", "w:gz") as archive:
        for name in ("../../escaped/train/pos/1_9.txt", "/train/neg/2_1.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"text"))
        link = tarfile.TarInfo("aclImdb/train/pos/3_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    texts, labels = read_reviews(str(data), "train", "aclImdb")
    assert texts == ["text", "text"], "the link's target is not read"
    assert labels.tolist() == [0, 1]
    assert [p.name for p in tmp_path.rglob("*")] == ["data", "aclImdb_v1.tar.gz"]


def test_no_code_unpacks_archives():
    for name in ("extractall", "unpack_archive", "extract"):
        assert list(calls(name)) == []


MARKUP = "<script>alert(1)</script>"


def test_names_from_a_config_are_escaped_in_the_report(tmp_path):
    config = load_config("quickstart", "smoke", workload=MARKUP, data__source=MARKUP, compare=())
    own = RunRecords(tmp_path / "run")
    for step in (0, 1):
        own.losses[step] = LossRow(MARKUP, 0, step, 0.0, 1.0 if step < 1 else np.nan)
    own.not_finite[1] = NotFiniteRow(MARKUP, 0, 1, 0.0, "gradient", MARKUP)
    with config.unlocked():
        config.optimizers = (MARKUP,)
    write_report(summary_of(config), [own], epath.Path(tmp_path), Console(quiet=True))
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 4, "the report's own, no other"
    assert page.count("&lt;script&gt;") > 3
