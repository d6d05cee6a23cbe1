"""The table of the `probes` benchmark."""

import dataclasses
from collections.abc import Mapping, Sequence

MODES = (
    "adjoint_weighted",
    "forward_over_reverse",
    "forward_over_forward",
    "reverse_over_reverse",
)
TORCH_WAYS = ("double backward", "vmap of jvp over grad", "curvlinops")
ONE_CALL = "all layers, one call"
LAYER_BY_LAYER = "all layers, one by one"


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement: a way on a layer, with its best chunk."""

    layer: str
    library: str
    way: str
    chunk: int
    ms_per_coordinate: float
    least_ms_per_coordinate: float
    num_coordinates: int
    largest_error: float


def table(rows: Sequence[Row]) -> str:
    """Milliseconds per coordinate by layer and way, chunks in brackets, ratios last.

    PyTorch's ways take one layer at a time; beside all layers in one call stands their mean.
    """
    layers: dict[str, dict[str, Row]] = {}
    for row in rows:
        layers.setdefault(row.layer, {})[row.way] = row
    ways = list(dict.fromkeys(row.way for row in rows))
    theirs = list(dict.fromkeys(row.way for row in rows if row.library != "hgeo"))
    one_call = layers.pop(ONE_CALL)

    header = ["ms per coordinate (chunk)", *ways, "reverse / adjoint"]
    lines = [[*header, "best PyTorch / adjoint"] if theirs else header]
    for layer, found in layers.items():
        ms = {way: row.ms_per_coordinate for way, row in found.items()}
        lines.append([layer, *_cells(ways, ms, found), *_ratios(ms, theirs)])
    # Every layer has as many coordinates, so that the mean over layers is that over coordinates.
    mean = {
        way: sum(found[way].ms_per_coordinate for found in layers.values()) / len(layers)
        for way in ways
        if layers and all(way in found for found in layers.values())
    }
    lines.append([LAYER_BY_LAYER, *_cells(ways, mean, {}), *_ratios(mean, theirs)])
    ms = {way: row.ms_per_coordinate for way, row in one_call.items()}
    of_theirs = {way: mean[way] for way in theirs}
    lines.append([ONE_CALL, *_cells(ways, ms, one_call), *_ratios(ms | of_theirs, theirs)])

    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    worst = max(rows, key=lambda row: row.largest_error)
    return "\n".join(
        [
            *("  ".join(line) for line in padded),
            f"Largest difference from forward_over_reverse: {worst.largest_error:.1e} of a layer's "
            f"largest |H_ii| ({worst.way}, {worst.layer}).",
        ]
    )


def _cells(ways: Sequence[str], ms: Mapping[str, float], rows: Mapping[str, Row]) -> list[str]:
    chunk = lambda way: f" ({rows[way].chunk})" if way in rows else ""
    return [f"{ms[way]:.2f}{chunk(way)}" if way in ms else "-" for way in ways]


def _ratios(ms: Mapping[str, float], theirs: Sequence[str]) -> list[str]:
    others = [ms.get("forward_over_reverse")]
    if theirs:
        others.append(min(ms[way] for way in theirs))
    own = ms.get("adjoint_weighted")
    return [f"{other / own:.2f}" if other and own else "-" for other in others]
