"""Several monitors that write to one file at the same time."""

import concurrent.futures

from hgeo.records.geometry_csv import GeometryFile
from hgeo.records.rows import GeometryRow

STEPS = 25


def write(folder, name):
    file = GeometryFile(folder)
    for step in range(STEPS):
        file.replace([GeometryRow(name, 0, step, 0.0, 1.0, 1, "kernel", "r_med", 2.0)])


def test_no_row_of_another_writer_is_lost(tmp_path):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: write(tmp_path, name), ("adam", "sgd", "lion")))
    found = {(row.optimizer, row.step) for row in GeometryFile(tmp_path).rows()}
    assert found == {(name, step) for name in ("adam", "sgd", "lion") for step in range(STEPS)}
