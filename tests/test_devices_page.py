"""The examples of the page on devices and clusters."""

import pathlib
import re

import jax

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "pages" / "devices-and-clusters.md"


def test_examples_run_one_after_the_other(capsys):
    names = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 2
    with jax.numpy_dtype_promotion("standard"):  # as its reader has it
        for example in examples:
            exec(example, names)
    assert "up (20,) R_med" in capsys.readouterr().out
    assert not names["params"]["up"].sharding.is_fully_replicated
    assert "hgeo/r_med/down" in names["values"]
