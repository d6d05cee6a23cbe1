"""Whole experiments at smoke scale: interrupted, extended, diverged, repeated."""

import csv
import io

import numpy as np
import pytest

from hgeo.training import loop
from tests.experiments import load_config, records, run
from tests.interruptions import interrupted


def rows(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


ONE_LAYER = {"probe__layers": (4,), "model__num_blocks": 1}


def config():
    return load_config("quickstart", "smoke", **ONE_LAYER)


@pytest.mark.parametrize(
    ("owner", "method"), [(loop, "_update_until"), (loop.Run, "_measure"), (loop.Run, "record")]
)
@pytest.mark.parametrize("call", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_interrupted_run_ends_with_the_same_numbers(calm, tmp_path, owner, method, call):
    with interrupted(owner, method, call):
        run(config(), tmp_path)
    run(config(), tmp_path)
    assert records(tmp_path) == records(calm)


def test_probes_added_later_equal_those_planned(calm, tmp_path):
    run(load_config("quickstart", "smoke", probe__steps=(6,), **ONE_LAYER), tmp_path)
    run(load_config("quickstart", "smoke", **ONE_LAYER), tmp_path)
    for ours, theirs in zip(records(tmp_path), records(calm), strict=True):
        for a, b in zip(rows(ours), rows(theirs), strict=True):
            assert a.keys() == b.keys()
            for key in a:
                if key in ("loss", "value"):
                    np.testing.assert_allclose(float(a[key]), float(b[key]), rtol=1e-4)
                else:
                    assert a[key] == b[key]


def test_diverged_run_is_marked_and_the_other_goes_on(tmp_path):
    config = load_config("quickstart", "smoke", sgdm__learning_rate=1e30, **ONE_LAYER)
    finite, said = run(config, tmp_path)
    assert not finite
    assert "SGD+M, repeat 0: diverged at step" in said
    losses, geometry = map(rows, records(tmp_path))
    last = [r for r in losses if r["optimizer"] == "sgdm"][-1]
    assert not np.isfinite(float(last["loss"]))
    assert [r["step"] for r in losses if r["optimizer"] == "adam"] == list("012345")
    assert {r["step"] for r in geometry if r["optimizer"] == "sgdm"} == {"0"}
    assert "diverged" in (tmp_path / "report.html").read_text()
    assert "diverged" in (tmp_path / "table.md").read_text()
    assert run(config, tmp_path)[0] is False


def test_repeats_share_the_start_and_differ_in_data(tmp_path):
    changes = {"optimizers": ("adam",), "compare": (), **ONE_LAYER}
    run(load_config("quickstart", "smoke", **changes), tmp_path)
    alone = rows(records(tmp_path)[0])
    run(load_config("quickstart", "smoke", repeats=2, **changes), tmp_path)
    losses, geometry = map(rows, records(tmp_path))
    assert losses[: len(alone)] == alone, "a repeat added later leaves the first as it was"
    by_repeat = [[r["loss"] for r in losses if r["repeat"] == str(k)] for k in (0, 1)]
    assert by_repeat[0] != by_repeat[1]
    start = [
        [r["value"] for r in geometry if (r["repeat"], r["step"]) == (str(k), "0")] for k in (0, 1)
    ]
    assert start[0] == start[1]
