"""Every public name is documented, with shapes, and its example runs."""

import doctest
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo

SHAPES = ("shape", "scalar", "axis", "axes", "(K,)")


@pytest.mark.parametrize("name", hgeo.__all__)
def test_every_public_name_says_what_it_is_with_shapes_and_an_example(name):
    text = inspect.getdoc(getattr(hgeo, name))
    assert text, f"{name} has no docstring"
    assert text.splitlines()[0].endswith("."), f"{name}: the first line is one sentence"
    assert any(word in text for word in SHAPES), f"{name}: its docstring states no shapes"
    assert ">>>" in text, f"{name} has no example"


@pytest.mark.parametrize("name", hgeo.__all__)
def test_every_example_runs(name):
    names = {"hgeo": hgeo, "jax": jax, "jnp": jnp, "np": np}
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    (test,) = finder.find(getattr(hgeo, name), name, globs=dict(names))
    output = []
    with jax.numpy_dtype_promotion("standard"):  # as users have it; Optax leans on it
        runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)
    assert runner.tries
