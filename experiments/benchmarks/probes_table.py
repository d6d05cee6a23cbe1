"""The table of the `probes` benchmark."""

import dataclasses
from collections.abc import Sequence

MODES = ("adjoint_weighted", "forward_over_reverse", "forward_over_forward")
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
    """Milliseconds per coordinate by layer and way, chunks in brackets, ratios last."""
    layers: dict[str, dict[str, Row]] = {}
    for row in rows:
        layers.setdefault(row.layer, {})[row.way] = row
    one_call = layers.pop(ONE_CALL)["adjoint_weighted"]
    ways = list(next(iter(layers.values())))
    theirs = [way for way in ways if way not in MODES]

    header = ["ms per coordinate (chunk)", *ways, "reverse / adjoint"]
    lines = [[*header, "best PyTorch / adjoint"] if theirs else header]
    times = []
    for layer, found in layers.items():
        ms = {way: row.ms_per_coordinate for way, row in found.items()}
        times.append(ms | {"best": min((ms[way] for way in theirs), default=0.0)})
        cells = [f"{ms[way]:.2f} ({found[way].chunk})" for way in ways]
        lines.append([layer, *cells, *_ratios(times[-1], bool(theirs))])
    # Every layer has as many coordinates, so that the mean over layers is that over coordinates.
    mean = {way: sum(ms[way] for ms in times) / len(times) for way in times[0]}
    cells = [f"{mean[way]:.2f}" for way in ways]
    lines.append([LAYER_BY_LAYER, *cells, *_ratios(mean, bool(theirs))])
    mean["adjoint_weighted"] = one_call.ms_per_coordinate
    cells[ways.index("adjoint_weighted")] = f"{one_call.ms_per_coordinate:.2f} ({one_call.chunk})"
    lines.append([ONE_CALL, *cells, *_ratios(mean, bool(theirs))])

    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]
    worst = max(rows, key=lambda row: row.largest_error)
    return "\n".join(
        [
            *("  ".join(line) for line in padded),
            "Only adjoint_weighted is measured in one call; the others' figures are repeated.",
            f"Largest difference from forward_over_reverse: {worst.largest_error:.1e} of a layer's "
            f"largest |H_ii| ({worst.way}, {worst.layer}).",
        ]
    )


def _ratios(ms, with_torch: bool) -> list[str]:
    ratios = [ms["forward_over_reverse"], *([ms["best"]] if with_torch else [])]
    return [f"{other / ms['adjoint_weighted']:.2f}" for other in ratios]
