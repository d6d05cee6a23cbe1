"""The paper's numbers, as they are carried."""

import collections

import pytest

from experiments.paper import paper_numbers


def test_all_852_are_there():
    found = paper_numbers.numbers()
    assert len(found) == 852
    counts = collections.Counter(number.table.split()[0] for number in found)
    assert counts == {
        "1": 56,
        "2a": 80,
        "2b": 80,
        "3": 96,
        "4": 96,
        "5": 48,
        "6": 90,
        "7": 96,
        "8": 40,
        "9": 80,
        "10": 90,
    }


def test_no_number_twice_and_none_absurd():
    found = paper_numbers.numbers()
    assert len({(n.table, n.checkpoint, n.layer, n.series) for n in found}) == len(found)
    # R_med is at least 1; so it is of all but the ratios.
    assert all(n.value >= 1 for n in found if "/" not in n.series)


def test_given_ratio_and_made_ratio():
    table = paper_numbers.of_table("2a")
    pair = ("sgdm", "adam")
    assert paper_numbers.ratio(table, "epoch 55", 15, pair) == (8.6, 3.06)
    assert table["epoch 55", 15, "sgdm"].value == 46.27
    plain = paper_numbers.of_table("5")
    ratio, std = paper_numbers.ratio(plain, "epoch 40", 8, ("sgd", "adagrad"))
    assert ratio == pytest.approx(203.70 / 9.57)
    assert std is None
    assert paper_numbers.ratio(plain, "epoch 40", 9, ("sgd", "adagrad")) == (None, None)


def test_unknown_table_is_named():
    with pytest.raises(KeyError, match="'11'"):
        paper_numbers.of_table("11")
