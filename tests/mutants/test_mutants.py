"""Every mutant still fits the code and the tests of today; the command tries them."""

import ast
import functools
import pathlib

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant

ROOT = pathlib.Path(__file__).parent.parent.parent


@functools.cache
def functions(path):
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "name")}


def test_there_are_enough_and_no_name_twice():
    assert len(MUTANTS) >= 45
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code_and_names_tests_that_exist(mutant):
    compile(mutant.mutate((ROOT / mutant.file).read_text()), mutant.file, "exec")
    assert mutant.new != mutant.old
    assert mutant.tests
    for test in mutant.tests:
        path, _, function = test.partition("::")
        assert path.startswith("tests/")
        assert not path.startswith("tests/mutants")
        assert (ROOT / path).exists(), path
        assert not function or function.partition("[")[0] in functions(ROOT / path), test


@pytest.mark.parametrize("text", ["a = 2", "a = 1; b = 1"])
def test_a_mutant_that_fits_no_or_several_places_is_refused(text):
    mutant = Mutant("one", "", "x.py", "= 1", "= 3", ())
    with pytest.raises(ValueError, match=r"'one': its old text must occur once in x\.py, not [02]"):
        mutant.mutate(text)
