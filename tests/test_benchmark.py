import csv
import importlib.util

import numpy as np
import pytest

from experiments import benchmark
from experiments.benchmarks import probes
from experiments.benchmarks.probes_table import MODES, ONE_CALL

NUM_LAYERS = 5  # one block and the head


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """What `benchmark probes --smoke` prints, and the rows that it writes."""
    path = tmp_path_factory.mktemp("benchmark") / "probes.csv"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        benchmark.main(["probes", "--smoke", f"--out={path}"])
    with path.open(newline="") as file:
        return "\n".join(lines), list(csv.DictReader(file))


def test_table_has_every_layer_and_ends_with_ratios(smoke):
    text, rows = smoke
    layers = dict.fromkeys(row["layer"] for row in rows)
    assert len(layers) == NUM_LAYERS + 1
    assert all(f"\n{layer} " in text for layer in layers)
    (header,) = [line for line in text.splitlines() if line.startswith("ms per coordinate")]
    last = "best PyTorch / adjoint" if "torch" in text else "reverse / adjoint"
    assert header.endswith(last)
    assert "threads" in text
    assert "jaxlib" in text


def test_every_way_is_measured_and_agrees(smoke):
    _, rows = smoke
    for mode in MODES:
        measured = [row for row in rows if row["way"] == mode and row["layer"] != ONE_CALL]
        assert len(measured) == NUM_LAYERS
    assert [row["way"] for row in rows if row["layer"] == ONE_CALL] == ["adjoint_weighted"]
    for row in rows:
        assert 0 < float(row["least_ms_per_coordinate"]) <= float(row["ms_per_coordinate"])
        assert float(row["largest_error"]) <= 1e-4


def test_leaves_pytorch_out_where_it_is_missing(capsys, monkeypatch):
    found = importlib.util.find_spec
    absent = lambda name, *rest: None if name == "torch" else found(name, *rest)
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    benchmark.main(["probes", "--smoke"])
    printed = capsys.readouterr().out
    assert "PyTorch is not installed: its columns are left out" in printed
    assert "best PyTorch" not in printed
    assert ONE_CALL in printed


def test_wrong_entries_stop_it(monkeypatch):
    def wrong(case):
        name, chosen = next(iter(case.coordinates.items()))
        entries = {name: np.zeros(len(chosen.indices))}
        return {(name, "torch", "zeros"): lambda chunk: lambda: entries}

    monkeypatch.setattr(probes, "torch_probes", wrong)
    with pytest.raises(SystemExit, match=r"entries differ.*zeros"):
        benchmark.main(["probes", "--smoke"])


def test_unknown_benchmark_is_named(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["speed"])
    assert "probes" in capsys.readouterr().err
