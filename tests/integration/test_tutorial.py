"""The tutorial notebook runs from its first cell to its last."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

PATH = pathlib.Path(__file__).parents[2] / "experiments" / "tutorial.ipynb"


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_it_showed():
    shown = nbformat.read(PATH, as_version=4)
    again = nbformat.from_dict(shown)
    NotebookClient(again, timeout=600, resources={"metadata": {"path": PATH.parent}}).execute()
    for cell, before in zip(again.cells, shown.cells, strict=True):
        kinds = [output["output_type"] for output in cell.get("outputs", [])]
        assert set(kinds) == {output["output_type"] for output in before.get("outputs", [])}
    printed = "".join(
        output.get("text", "") for cell in again.cells for output in cell.get("outputs", [])
    )
    assert "as Adam sees it" in printed
    assert "nan" not in printed
