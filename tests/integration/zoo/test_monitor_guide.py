"""The loops of the monitor's guide, those of Haiku and Keras too."""

import importlib.util

import pytest

from tests import test_readme

GUIDE = test_readme.ROOT / "docs" / "pages" / "guides" / "monitor.md"
as_readers_have_it = test_readme.as_readers_have_it


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in test_readme.OPTIONAL),
    reason="needs pip install -e '.[zoo]'",
)
def test_every_loop_of_the_guide_runs(capsys, monkeypatch):
    monkeypatch.setattr(test_readme, "OPTIONAL", set())
    test_readme.run_in_order(GUIDE.read_text(), capsys)
