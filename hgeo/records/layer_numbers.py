"""The numbers of layers in an experiment's records.

Whole matrices count from 1, as the paper counts them. Part k, from 1, of layer n has the number
100 n + k, and `ALL` is all params together.
"""

from collections.abc import Iterable

PARTS = 100

ALL = 0


def is_whole(number: int) -> bool:
    """Whether a number is that of one whole matrix: not of a part, nor of all params."""
    return ALL < number < PARTS


def whole_layers(numbers: Iterable[int]) -> list[int]:
    """The numbers of whole matrices, which counts and medians over layers are of.

    A matrix and its parts share their entries; all numbers are kept where none is of a whole one.
    """
    numbers = list(numbers)
    return [number for number in numbers if is_whole(number)] or numbers
