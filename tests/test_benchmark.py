import csv
import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from experiments import benchmark
from experiments.benchmarks import full, growth, limit, probes
from experiments.benchmarks.probes_table import MODES, ONE_CALL
from hgeo.second_order.evaluate import evaluate_quadratic_forms

# CI runs them once, where PyTorch is there.
pytestmark = pytest.mark.slow

NUM_LAYERS = 9  # two blocks and the head


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
    assert [row["way"] for row in rows if row["layer"] == ONE_CALL] == list(MODES)
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
    def wrong(case, ways):
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


def test_full_diagonal_is_timed_checked_and_explained(tmp_path, capsys):
    benchmark.main(["full", "--smoke", f"--out={tmp_path / 'full.csv'}"])
    printed = capsys.readouterr().out
    with (tmp_path / "full.csv").open(newline="") as file:
        rows = {row["way"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"full_diagonal", *full.MODES}
    assert all(float(row["largest_error"]) <= full.TOLERANCE for row in rows.values())
    ratio = float(rows["adjoint_weighted"]["ms_per_entry"]) / float(
        rows["full_diagonal"]["ms_per_entry"]
    )
    assert abs(float(rows["adjoint_weighted"]["full_is_faster"]) / ratio - 1) < 1e-6
    assert "R_med of all 128 entries" in printed
    assert "billion operations a second" in printed
    for layer in ("attention/in_proj", "linear2", "head"):
        assert layer in printed


def test_full_stops_where_entries_differ(monkeypatch):
    monkeypatch.setattr(full, "TOLERANCE", -1.0)
    with pytest.raises(SystemExit, match="entries differ"):
        benchmark.main(["full", "--smoke"])


def test_repeats_are_timed_both_ways_and_agree(tmp_path, capsys):
    with jax.numpy_dtype_promotion("standard"):
        benchmark.main(["repeats", "--smoke", f"--out={tmp_path / 'repeats.csv'}"])
    assert "one by one / together" in capsys.readouterr().out
    with (tmp_path / "repeats.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["workload"] == "quickstart"
    ratio = float(row["one_by_one_ms"]) / float(row["together_ms"])
    assert abs(float(row["ratio"]) / ratio - 1) < 1e-6


def test_memory_is_counted_from_the_compiled_programs(tmp_path, capsys):
    benchmark.main(["memory", "--smoke", "--chunks", "1", "2", f"--out={tmp_path / 'm.csv'}"])
    printed = capsys.readouterr().out
    assert "a gradient's temporaries" in printed
    assert "all layers, chunk 1: 3 coordinates a layer" in printed
    with (tmp_path / "m.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["gradients"]) > 0
        assert (float(row["each_further"]) > 0) <= (row["chunk"] == "2")


def test_probes_of_translation_are_timed_against_their_products(capsys):
    pytest.importorskip("torch", reason="PyTorch's side of the translation model")
    ways = ["--modes", "--torch_ways", "double backward"]
    benchmark.main(["probes", "--smoke", "--case=translation", *ways])
    printed = capsys.readouterr().out
    (header,) = [x for x in printed.splitlines() if x.startswith("ms per coordinate")]
    assert "double backward" in header
    assert "vmap" not in header
    (line,) = [x for x in printed.splitlines() if x.startswith("decoder_0/cross_attention/in_p")]
    assert line.split()[1:4] == ["-", "-", "-"]
    assert "shapes" in printed
    assert "of the limit" in printed


def test_products_are_counted_through_loops():
    def function(x, y):
        once = jnp.einsum("bij,bjk->bik", x, y)
        return jax.lax.fori_loop(0, 5, lambda _, z: z @ y, once)

    counts = limit.products(function, jnp.ones((2, 3, 4)), jnp.ones((2, 4, 4)))
    assert counts == {limit.Product(2, 3, 4, 4): 6}
    assert limit.Product(2, 3, 4, 4).operations == 2 * 2 * 3 * 4 * 4
    found = limit.least(counts, lambda: time.sleep(0.2), rounds=1)
    assert found.seconds > 0
    assert found.call > 0.1


def test_convolutions_and_their_gradients_are_counted():
    def loss(images, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=numbers
        )
        return jnp.sum(out**2)

    counts = limit.products(jax.grad(loss, (0, 1)), jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4)))
    assert counts.total() == len(counts) == 3
    forward, *gradients = sorted(counts, key=lambda one: one.operations)
    assert forward.operations == 2 * (2 * 6 * 6 * 4) * (3 * 3 * 3)
    assert all(1 <= one.operations / forward.operations < 2 for one in gradients)
    assert limit.least(counts, lambda: None, rounds=1).seconds > 0


def test_separate_segments_are_counted_as_often_as_they_run():
    depth, width, rows, num = 24, 4, 6, 2
    params = {f"w{k:02}": jnp.eye(width) for k in range(depth)}
    x = jnp.ones((rows, width))

    def loss(params, x):
        for w in params.values():
            x = x + jnp.tanh(x @ w)
        return jnp.mean(x**2)

    coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), num, jax.random.key(0))

    def products(share_segments):
        probe = lambda p, x: evaluate_quadratic_forms(
            loss, p, x, coordinates, chunk_size=1, share_segments=share_segments
        )[0]
        return limit.products(probe, params, x)

    counts = products(False)
    # Each layer's tangent passes all layers above it.
    tangents = num * depth * (depth - 1) / 2
    assert counts[limit.Product(1, rows, width, width)] >= tangents
    assert counts[limit.Product(1, rows, width, width)] <= tangents + 4 * depth
    assert products("auto") != counts


def test_growth_fits_a_power_law(tmp_path, capsys):
    benchmark.main(["growth", "--smoke", f"--out={tmp_path / 'growth.csv'}"])
    assert "coordinates  slope" in capsys.readouterr().out
    with (tmp_path / "growth.csv").open(newline="") as file:
        assert [row["size"] for row in csv.DictReader(file)] == ["2", "4"]
    assert growth.slope([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2.0)


def test_depth_compares_recomputed_values_with_kept_ones(tmp_path, capsys):
    benchmark.main(["depth", "--smoke", f"--out={tmp_path / 'depth.csv'}"])
    assert "time ratio" in capsys.readouterr().out
    with (tmp_path / "depth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["layers"], row["depth"]) for row in rows] == [("first", "1"), ("first", "2")]
    assert all(0 < float(row["block"]) < float(row["none"]) for row in rows)


def test_scaling_exchanges_the_results_alone(tmp_path, capsys):
    benchmark.main(["scaling", "--smoke", f"--out={tmp_path / 'scaling.csv'}"])
    assert "bytes a coordinate" in capsys.readouterr().out
    with (tmp_path / "scaling.csv").open(newline="") as file:
        rows = {(row["devices"], row["program"]): row for row in csv.DictReader(file)}
    # 27 float32 entries and the weight of the loss.
    assert rows["2", "probe"]["bytes"] == str(4 * 27 + 4)
    for program in ("update", "probe"):
        one, two = (float(rows[devices, program]["gflop"]) for devices in "12")
        assert 0.45 < two / one < 0.6


def test_ahead_compiles_for_chips_or_names_what_is_missing(capsys):
    if importlib.util.find_spec("libtpu") is None:
        with pytest.raises(SystemExit, match=r"pip install 'jax\[tpu\]'"):
            benchmark.main(["ahead", "--smoke"])
        return
    benchmark.main(["ahead", "--smoke"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "v5e:2x4" in line]
    assert [line.split()[0] for line in lines] == ["gradient", "probe"]
    assert all("all-gather" in line for line in lines)


def test_a_filled_cache_compiles_faster(tmp_path, capsys):
    benchmark.main(["cold", "--smoke", f"--out={tmp_path / 'cold.csv'}"])
    assert "filled cache" in capsys.readouterr().out
    with (tmp_path / "cold.csv").open(newline="") as file:
        empty, filled = csv.DictReader(file)
    assert float(filled["compile"]) < float(empty["compile"])
