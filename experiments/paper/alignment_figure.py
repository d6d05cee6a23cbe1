"""Figures of how gradients and updates align with the curvature of their coordinates."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.paper.comparison import Side
from experiments.paper.pairing import Probed, by_repeat, in_each_repeat
from experiments.paper.ranks import rank_correlation
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext, train
from hgeo.optimizers import label
from hgeo.records.layer_numbers import is_whole
from hgeo.report.figures import COLORS
from hgeo.report.tables import Table


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a figure shows.

    Attributes:
      title: of the figure.
      sides: the optimizer without adaptivity, and the adaptive one.
      layer: the paper's number; if the model lacks it, the last but one probed layer is drawn.
    """

    title: str
    sides: tuple[Side, Side]
    layer: int


SETTINGS = {
    "figure4": Setting(
        "Figure 4: BERT, layer 12", (Side("bert", "sgdm"), Side("bert", "adam")), 12
    ),
    "figure11": Setting(
        "Figure 11: language model, SGD and Adagrad",
        (Side("lm_uniform", "sgd"), Side("lm_uniform", "adagrad")),
        7,
    ),
    "figure12": Setting(
        "Figure 12: translation",
        (Side("translation", "sgdm"), Side("translation", "adam")),
        15,
    ),
}


def run(name: str, context: ReproductionContext) -> Result:
    """Draws |g| and |u| of a layer, sorted by |H_ii|, and summarises ρ of all layers."""
    setting = SETTINGS[name]
    rows, cells, medians = [], [], {}
    figure = Figure(figsize=(8.6, 5.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for column, side in enumerate(setting.sides):
        trained = train(side.runs, context)
        records, step = trained.of(side.optimizer), max(trained.config.probe.steps)
        record, correlations = records[0], Probed(records, "rho_adaptive")
        layers = {r.layer_number: r.layer for r in record.geometry[step]}
        shown = setting.layer if setting.layer in layers else list(layers)[-2]
        arrays = record.read_arrays(step)
        for number, layer in layers.items():
            dotted = layer.replace("/", ".")
            keys = ("diagonal", "gradient", "adaptive_gradient")
            entries, gradient, adaptive = (np.abs(arrays[f"{dotted}.{key}"]) for key in keys)
            rho = [rank_correlation(entries, array)[0] for array in (gradient, adaptive)]
            spread = [_spread(array) for array in (gradient, adaptive)]
            rows.append(
                {
                    "optimizer": side.optimizer,
                    "step": step,
                    "layer": number,
                    "name": layer.removesuffix("/kernel"),
                    "coordinates": len(entries),
                    "rho_gradient": rho[0],
                    "rho_update": rho[1],
                    "spread_gradient": spread[0],
                    "spread_update": spread[1],
                    "rho_update_by_repeat": by_repeat(
                        in_each_repeat(correlations.values(step, number), len(records))
                    ),
                }
            )
            cells.append(
                [str(number), rows[-1]["name"], label(side.optimizer), str(step)]
                + [f"{value:.2f}" for value in (*rho, *spread)]
            )
            if number == shown:
                order = np.argsort(entries)
                _draw(panels[:, column], entries[order], gradient[order], adaptive[order])
                panels[0, column].set_title(
                    f"{label(side.optimizer)}, step {step}, layer {number}", fontsize=10
                )
        own = [r for r in rows if r["optimizer"] == side.optimizer and is_whole(r["layer"])]
        medians[side] = {key: _median(own, key) for key in ("rho_update", "spread_update")}
    for axes in panels[1]:
        axes.set_xlabel("coordinates, sorted by |H_ii|")
    header = ["#", "layer", "optimizer", "step", "ρ(|g|, |H_ii|)", "ρ(|u|, |H_ii|)"]
    header += ["decades of |g|", "decades of |u|"]
    note = (
        "ρ: Spearman's; u: the update over minus the learning rate; decades: log10 of the 95% over "
        "the 5% quantile. First repeat, last probed step."
    )
    plain, adaptive = (medians[side] for side in setting.sides)
    names = [label(side.optimizer) for side in setting.sides]
    verdict = (
        "the paper claims that adaptive updates are more "
        "uniform and align less with the curvature; medians over layers: ρ(|u|, |H_ii|) "
        f"{plain['rho_update']:.2f} ({names[0]}), {adaptive['rho_update']:.2f} ({names[1]}); "
        f"decades of |u| {plain['spread_update']:.2f}, {adaptive['spread_update']:.2f}"
    )
    return Result(rows, Table(setting.title, header, cells, [note]), {name: figure}, verdict)


def _spread(values: np.ndarray) -> float:
    low, high = np.quantile(values, (0.05, 0.95))
    return float(np.log10(high / low)) if low > 0 else float("inf")


def _median(rows: Sequence[dict], key: str) -> float:
    return float(np.nanmedian([row[key] for row in rows]))


def _draw(panels, entries: np.ndarray, gradient: np.ndarray, adaptive: np.ndarray) -> None:
    for axes, values, color, text in (
        (panels[0], gradient, COLORS[1], "|g|"),
        (panels[1], adaptive, COLORS[0], "|u|"),
    ):
        x = np.arange(len(values))
        axes.plot(x, _on_log_scale(values), ".", color=color, label=text)
        curvature = axes.twinx()
        curvature.plot(x, _on_log_scale(entries), color="gray", linewidth=1, label="|H_ii|")
        curvature.set_yscale("log")
        curvature.tick_params(which="both", labelsize=7, colors="gray")
        curvature.set_ylabel(f"|H_ii| (log scale{_zeros(entries)})", fontsize=8, color="gray")
        axes.set_yscale("log")
        axes.set_ylabel(f"{text} (log scale{_zeros(values)})", fontsize=9)
        axes.tick_params(which="both", labelsize=8)
        axes.grid(alpha=0.3)
        axes.set_zorder(curvature.get_zorder() + 1)
        axes.patch.set_visible(False)


def _on_log_scale(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def _zeros(values: np.ndarray) -> str:
    """How many values a log scale cannot show, for the axis's label."""
    number = int((values == 0).sum())
    return f"; {number} zeros not shown" if number else ""
