"""A work folder that an earlier version of hgeo made, stopped half-way, is continued."""

import pathlib
import tarfile

import numpy as np

from tests.experiments import load_config, rows, run
from tests.local_data import write_wikitext2

# Of commit 5c0e3ad, before the packages were moved: stopped with SGD done and Adagrad at step 3.
EARLIER = pathlib.Path(__file__).parent / "earlier_work_folder.tar.xz"
SETTINGS = {
    "model__num_blocks": 1,
    "model__width": 8,
    "model__ffn_width": 8,
    "probe__layers": (1, 4),
    "probe__steps": (0, 3, 6),
    "steps": 6,
    "checkpoint_every": 2,
    "optimizers": ("sgd", "adagrad"),
    "compare": (("sgd", "adagrad"),),
}


def test_a_work_folder_of_an_earlier_version_is_continued(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    config = load_config("lm", "smoke", data_dir=str(write_wikitext2(data)), **SETTINGS)
    with tarfile.open(EARLIER) as archive:
        archive.extractall(tmp_path / "earlier", filter="data")
    before = rows(tmp_path / "earlier" / "runs" / "adagrad" / "repeat_0", "losses")
    assert [row["step"] for row in before] == ["0", "1", "2"]

    run(config, tmp_path / "earlier")
    run(config, tmp_path / "now")

    continued = rows(tmp_path / "earlier", "losses")
    assert [row for row in continued if row["optimizer"] == "adagrad"][:3] == before
    for name, column in (("losses", "loss"), ("geometry", "value")):
        pairs = zip(rows(tmp_path / "earlier", name), rows(tmp_path / "now", name), strict=True)
        for ours, fresh in pairs:
            values = float(ours.pop(column)), float(fresh.pop(column))
            # The folder was begun on another machine, whose sums may round otherwise.
            np.testing.assert_allclose(*values, rtol=2e-3, err_msg=str(fresh))
            assert ours.keys() == fresh.keys()
            for key in ours:
                if key in ("loss", "epoch"):
                    np.testing.assert_allclose(float(ours[key]), float(fresh[key]), rtol=2e-3)
                else:
                    assert ours[key] == fresh[key]
