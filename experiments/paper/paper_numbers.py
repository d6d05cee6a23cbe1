"""The numbers of the paper's tables: `tables.csv`, 852 of them."""

import csv
import dataclasses
import functools
from pathlib import Path

FILE = Path(__file__).with_name("tables.csv")


@dataclasses.dataclass(frozen=True)
class Number:
    """One number of a table: R_med of a layer at a checkpoint, or a ratio of two.

    Attributes:
      table: `"2a"`, `"3 (uniform init, first gain)"`, ...
      checkpoint: `"epoch 30"`, `"iteration 750"`, `"loss 3.72"`, ...
      layer: the paper's number.
      series: an optimizer, or `"sgdm/adam"` for the mean ratio over repeats.
      value: the number.
      std: its standard deviation over repeats, where the paper gives one.
    """

    table: str
    checkpoint: str
    layer: int
    series: str
    value: float
    std: float | None


@functools.cache
def numbers() -> tuple[Number, ...]:
    """All numbers, in the paper's order."""
    with FILE.open(newline="") as file:
        return tuple(
            Number(
                row["table"],
                row["checkpoint"],
                int(row["layer"]),
                row["series"],
                float(row["value"]),
                float(row["std"]) if row["std"] else None,
            )
            for row in csv.DictReader(file)
        )


def of_table(table: str) -> dict[tuple[str, int, str], Number]:
    """A table's numbers by checkpoint, layer and series; a table that there isn't is a KeyError."""
    found = {(n.checkpoint, n.layer, n.series): n for n in numbers() if n.table == table}
    if not found:
        raise KeyError(f"the paper has no table {table!r}")
    return found


def ratio(
    table: dict[tuple[str, int, str], Number], checkpoint: str, layer: int, pair: tuple[str, str]
) -> tuple[float | None, float | None]:
    """The first series' R_med over the second's, and its standard deviation.

    The paper's mean ratio where it is given, else the ratio of the paper's two numbers.
    """
    own = table.get((checkpoint, layer, "/".join(pair)))
    if own is not None:
        return own.value, own.std
    first, second = (table.get((checkpoint, layer, series)) for series in pair)
    if first is None or second is None:
        return None, None
    return first.value / second.value, None
