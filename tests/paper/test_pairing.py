"""What a row of a table says of two optimizers, from records and kept entries."""

import numpy as np
import pytest

import hgeo
from experiments.paper.pairing import Probed, interval_of_repeats, paired
from hgeo.errors import InputError
from hgeo.records.run_records import GeometryRow, RunRecords

LAYER = "block/kernel"


def run(folder, optimizer, repeat, entries, step=4, eps=1e-6, keep=True):
    own = RunRecords(folder / optimizer / str(repeat))
    value = float(np.max(np.abs(entries)) / (np.median(np.abs(entries)) + eps))
    own.geometry = {
        step: [GeometryRow(optimizer, repeat, step, 0.0, 2.0, 3, LAYER, "r_med", value)]
    }
    if keep:
        own.write_arrays(step, {f"{LAYER}/diagonal": entries})
    return own


def runs(folder, optimizer, entries, repeats, **options):
    return [run(folder, optimizer, k, entries[k], **options) for k in repeats]


@pytest.fixture
def entries():
    return 1e-7 * np.exp(np.random.default_rng(0).normal(size=(2, 3, 40))).astype(np.float32)


def row(folder, entries, repeats=((0, 1, 2), (0, 1, 2)), keep=True, resample=True):
    probed = [
        Probed(runs(folder, name, own, which, keep=keep), "r_med", eps=1e-6)
        for name, own, which in zip(("sgdm", "adam"), entries, repeats, strict=True)
    ]
    return paired(probed, (4, 4), 3, resample)


def test_values_are_of_the_entries_without_eps_and_of_the_repeats_of_both(entries, tmp_path):
    found = row(tmp_path, entries, ((0, 1, 2), (2, 0)))
    values = [np.asarray(hgeo.r_med(side[[0, 2]])) for side in entries]
    assert (found["repeats"], found["eps"]) == (2, 0.0)
    assert found["ours_first"] == pytest.approx(values[0].mean(), rel=1e-5)
    assert found["ours_second"] == pytest.approx(values[1].mean(), rel=1e-5)
    ratios = values[0] / values[1]
    assert found["ours_ratio"] == pytest.approx(np.sqrt(ratios.prod()), rel=1e-5)
    assert found["ours_mean_ratio"] == pytest.approx(ratios.mean(), rel=1e-5)
    assert [float(text) for text in found["first_by_repeat"].split()] == pytest.approx(
        values[0], rel=1e-5
    )
    assert found["interval_covers"] == "repeats and coordinates"
    assert found["ours_ratio_low"] < found["ours_ratio"] < found["ours_ratio_high"]
    assert found["q95_ratio_low"] < found["q95_ratio"] < found["q95_ratio_high"]
    one = row(tmp_path / "one", entries, ((1,), (1,)))
    assert one["interval_covers"] == "coordinates"


def test_without_entries_it_is_what_was_recorded_and_repeats_alone(entries, tmp_path):
    found = row(tmp_path, entries, keep=False)
    assert found["eps"] == 1e-6
    assert found["ours_first"] < 1 < float(hgeo.r_med(entries[0, 0]))
    assert found["interval_covers"] == "repeats"
    values = [
        np.array([float(v) for v in found[f"{k}_by_repeat"].split()]) for k in ("first", "second")
    ]
    low, high = interval_of_repeats(np.log(values[0] / values[1]))
    assert found["ours_ratio_low"] == pytest.approx(np.exp(low), rel=1e-4)
    assert found["ours_ratio_high"] == pytest.approx(np.exp(high), rel=1e-4)
    assert found["q95_ratio"] is None
    one = row(tmp_path / "one", entries, ((1,), (1,)), keep=False)
    assert one["interval_covers"] is one["ours_ratio_low"] is None


def test_a_common_start_has_no_interval_and_no_repeat_no_ratio(entries, tmp_path):
    assert row(tmp_path, entries, resample=False)["interval_covers"] is None
    none = row(tmp_path / "none", entries, ((0,), (1,)))
    assert (none["repeats"], none["ours_ratio"], none["ours_ratio_low"]) == (0, None, None)


def test_damaged_entries_are_said(entries, tmp_path):
    row(tmp_path, entries)
    (tmp_path / "adam" / "1" / "arrays" / "4.npz").write_bytes(b"PK half")
    own = [RunRecords(tmp_path / "adam" / "1")]
    own[0].geometry = {4: [GeometryRow("adam", 1, 4, 0.0, 2.0, 3, LAYER, "r_med", 1.5)]}
    with pytest.raises(InputError, match=r"4\.npz can't be read"):
        Probed(own, "r_med").values(4, 3)
