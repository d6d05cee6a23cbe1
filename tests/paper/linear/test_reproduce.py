"""`experiments.reproduce` of the linear networks: arguments, and the Gaussian reference."""

import numpy as np
import pytest

from experiments import reproduce
from experiments.paper.linear import gaussian_reference


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["theorem9", "--workdir=x"], "theorem9"),
        (["theorem1"], "--workdir=DIR is missing"),
        (["theorem1", "--workdir=x", "--scale=huge"], "unknown scale 'huge'"),
    ],
)
def test_bad_arguments_take_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert reproduce.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_list(capsys):
    assert reproduce.main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("theorem1", "corollary1", "theorem2"))


@pytest.mark.parametrize("d", [5, 8])
def test_gaussian_reference_against_draws(d):
    squares = np.random.default_rng(0).normal(size=(400_000, d)) ** 2
    ratio = squares.max(axis=1) / np.median(squares, axis=1)
    np.testing.assert_allclose(gaussian_reference.median(d), np.median(ratio), rtol=0.01)
    at = np.searchsorted(gaussian_reference.RATIOS, 20)
    expected = np.mean(ratio <= gaussian_reference.RATIOS[at])
    np.testing.assert_allclose(gaussian_reference.distribution(d)[at], expected, atol=3e-3)
