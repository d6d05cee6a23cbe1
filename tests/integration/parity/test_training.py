"""Updates against the PyTorch originals': the losses of the same weights and batches."""

import csv

import jax
import pytest
import torch

from experiments import benchmark


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax needs it
        yield


def test_updates_are_timed_where_losses_agree(tmp_path, capsys):
    benchmark.main(["train", "--smoke", f"--out={tmp_path / 'train.csv'}"])
    printed = capsys.readouterr().out
    assert "an update in the train loop" in printed
    with (tmp_path / "train.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["products_ms"]) < float(row["eager_ms"])
    assert float(row["ratio"]) == pytest.approx(float(row["eager_ms"]) / float(row["hgeo_ms"]))


def test_it_stops_where_they_differ(monkeypatch):
    adam = torch.optim.Adam
    faster = lambda params, lr, **options: adam(params, lr=10 * lr, **options)
    monkeypatch.setattr(torch.optim, "Adam", faster)
    with pytest.raises(SystemExit, match="the losses differ"):
        benchmark.main(["train", "--smoke"])
