"""Beyond the paper: R_med at the initial weights against the number of classes.

No optimizer has acted yet. A Transformer with Gaussian inputs classifies each position; the classes
are equally frequent, or follow Zipf's law as words do.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import hgeo
from experiments.paper.pairing import by_repeat, geometric_mean
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext
from hgeo.models.layers import EncoderBlock
from hgeo.report.figures import COLORS, MARKERS, STYLE
from hgeo.report.tables import Table, format_number

TARGETS = {"equal frequencies": 0.0, "Zipf's law": 1.0}  # the exponent of 1 / rank


@dataclasses.dataclass(frozen=True)
class Size:
    """How large the model and the batch are.

    Attributes:
      classes: the numbers of classes that are compared.
      seeds: of weights, inputs, targets and coordinates.
      width: of the residual stream and the feed-forward layers.
      batch: sequences, and positions of each.
      coordinates: of each layer.
    """

    classes: tuple[int, ...]
    seeds: int
    width: int
    batch: tuple[int, int]
    coordinates: int


_FULL = Size((2, 10, 100, 1000, 4000), 8, 128, (32, 32), 200)
SIZES = {"paper": _FULL, "gpu": _FULL, "cpu": _FULL, "smoke": Size((2, 20), 2, 8, (4, 4), 6)}


class Classifier(nn.Module):
    """Two Transformer blocks and a head, on vectors."""

    num_classes: int

    @nn.compact
    def __call__(self, x_BxTxD):
        """(B, T, D) -> logits (B, T, num_classes)."""
        _, length, width = x_BxTxD.shape
        causal_1xTxT = jnp.tril(jnp.ones((length, length), bool))[None]
        x = x_BxTxD
        for n in range(2):
            block = EncoderBlock(2, width, 0.0, "xavier_uniform", 1.0, name=f"block{n}")
            x = block(x, causal_1xTxT, True)
        init = nn.initializers.xavier_uniform()
        return nn.Dense(self.num_classes, kernel_init=init, name="head")(x)


def run(context: ReproductionContext) -> Result:
    """R_med of each layer by number of classes, over seeds."""
    size = SIZES.get(context.scale, _FULL)
    rows: list[dict[str, Any]] = []
    for classes in size.classes:
        context.console.print(f"{classes} classes, {size.seeds} seeds", highlight=False)
        rows += _rows(size, classes)
    title = "R_med at the initial weights, by number of classes"
    header = ["#", "layer", "targets", *(f"{n} classes" for n in size.classes)]
    cells = [
        [str(own[0]["layer"]), own[0]["name"], own[0]["targets"]]
        + [f"{format_number(r['r_med'])} ({_ends(r)})" for r in own]
        for own in _lines(rows)
    ]
    note = f"Geometric mean over {size.seeds} seeds, with its 95% interval."
    ends = [
        f"{name}, {targets}: {_growth(rows, targets, head):.2f} times"
        for targets in TARGETS
        for name, head in (("head", True), ("other layers", False))
    ]
    verdict = (
        f"from {size.classes[0]} to {size.classes[-1]} classes R_med becomes, in the median over "
        f"layers, {'; '.join(ends)}"
    )
    return Result(
        rows, Table(title, header, cells, [note]), {"extra_classes": _figure(rows)}, verdict
    )


def _rows(size: Size, classes: int) -> list[dict[str, Any]]:
    model = Classifier(classes)

    def loss(params, batch):
        logits: Any = model.apply(params, batch["inputs"])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]))

    @jax.jit
    def measure(key, targets_key, exponent):
        init, inputs, draw = jax.random.split(key, 3)
        x = jax.random.normal(inputs, (*size.batch, size.width))
        params = model.init(init, x)
        logits = -exponent * jnp.log(jnp.arange(1.0, classes + 1))
        batch = {
            "inputs": x,
            "labels": jax.random.categorical(targets_key, logits, shape=size.batch),
        }
        coordinates = hgeo.sample_coordinates(hgeo.find_layers(params), size.coordinates, draw)
        diagonal = hgeo.sampled_diagonal(loss, params, batch, coordinates)
        return loss(params, batch), hgeo.r_med(diagonal)

    found = []
    for targets, exponent in TARGETS.items():
        keys = [jax.random.split(jax.random.key(seed)) for seed in range(size.seeds)]
        measured = jax.device_get([measure(*pair, exponent) for pair in keys])
        loss_mean = float(np.mean([value for value, _ in measured]))
        for number, name in enumerate(measured[0][1], 1):
            values = np.array([float(by_layer[name]) for _, by_layer in measured])
            mean, low, high = geometric_mean(values)
            found.append(
                {
                    "targets": targets,
                    "classes": classes,
                    "layer": number,
                    "name": name.removeprefix("params/").removesuffix("/kernel"),
                    "seeds": len(values),
                    "loss": loss_mean,
                    "r_med": mean,
                    "low": low,
                    "high": high,
                    "by_repeat": by_repeat(values),
                }
            )
    return found


def _lines(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows of each (layer, targets), in order of the number of classes."""
    places = dict.fromkeys((row["layer"], row["targets"]) for row in rows)
    return [[r for r in rows if (r["layer"], r["targets"]) == place] for place in places]


def _ends(row: dict[str, Any]) -> str:
    low, high = row["low"], row["high"]
    return "no interval" if low is None else f"{format_number(low)} to {format_number(high)}"


def _growth(rows: Sequence[dict[str, Any]], targets: str, head: bool) -> float:
    return float(
        np.median(
            [
                own[-1]["r_med"] / own[0]["r_med"]
                for own in _lines(rows)
                if own[0]["targets"] == targets and (own[0]["name"] == "head") == head
            ]
        )
    )


def _figure(rows: Sequence[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(row["name"] for row in rows))
    figure = Figure(figsize=(8.4, 7.2), layout="constrained")
    panels = figure.subplots(3, 3, sharex=True, sharey=True).ravel()
    for axes, name in zip(panels, names, strict=True):
        for k, targets in enumerate(TARGETS):
            own = [row for row in rows if (row["name"], row["targets"]) == (name, targets)]
            x = [row["classes"] for row in own]
            look = {"color": COLORS[k], "marker": MARKERS[k], "label": targets, **STYLE}
            axes.plot(x, [row["r_med"] for row in own], **look)
            if all(row["low"] is not None for row in own):
                ends = ([row[key] for row in own] for key in ("low", "high"))
                axes.fill_between(x, *ends, color=COLORS[k], alpha=0.2, linewidth=0)
        axes.set(xscale="log", yscale="log", title=name)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    figure.supxlabel("number of classes (log scale)")
    figure.supylabel("R_med at the initial weights (log scale)")
    return figure
