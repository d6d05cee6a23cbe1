"""All experiments by id: what each shows, from which runs, and what makes its result."""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from pathlib import Path

from experiments.paper import (
    alignment_figure,
    claim,
    extra_classes,
    extra_full,
    extra_parts,
    extra_rates,
    extra_tokens,
    extras,
    figure1b,
    figure14,
    loss_figures,
    low_rank_figures,
    section31,
)
from experiments.paper.ratio_table import ratio_table
from experiments.paper.result import Result
from experiments.paper.run_configs import load_config
from experiments.paper.runs import MINUTES, RUN_SETS
from experiments.paper.tables import CLAIMS, TABLES
from experiments.paper.training import ReproductionContext

RESULTS = Path(__file__).parent.parent / "results"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes:
      shows: in a line.
      run: makes its result, training what is missing.
      runs: the run sets that it needs.
      minutes: at `cpu` scale, where it has no run sets.
    """

    shows: str
    run: Callable[[ReproductionContext], Result]
    runs: tuple[str, ...] = ()
    minutes: float = 0.0

    def cost(self, scale: str, repeats: int | None = None) -> str:
        """What its runs cost from nothing; many are shared with other experiments.

        Args:
          scale: of the runs.
          repeats: of every run set; `None`: each set's number.
        """
        if scale == "smoke":
            return "1 min"
        if scale in ("paper", "gpu"):
            return "a GPU" if self.runs else "as cpu"
        minutes = sum(_minutes(name, repeats) for name in self.runs) or self.minutes
        return f"{minutes:.0f} min"


def _minutes(name: str, repeats: int | None) -> float:
    """What a run set costs at `cpu` scale; probes alone take about half of a run."""
    config = load_config(name, "cpu", repeats)
    run_set = RUN_SETS[name]
    of_run = run_set.minutes or MINUTES[run_set.config] / (2 if run_set.probes_of else 1)
    return of_run * len(config.optimizers) * config.repeats


def is_published(name: str) -> bool:
    """Whether a measured result of an experiment is kept in `experiments/results`."""
    return any(RESULTS.rglob(f"{name}.csv"))


def _linear(module: str, context: ReproductionContext) -> Result:
    found = importlib.import_module(f"experiments.paper.linear.{module}")
    return found.run(context.scale, context.folder, context.console)


def _table(name: str) -> Experiment:
    title, comparisons = TABLES[name]
    sides = [side for c in comparisons for side in (c.first, c.second)]
    run = lambda context: ratio_table(name, title, comparisons, context, CLAIMS.get(name, ""))
    return Experiment(title, run, tuple(dict.fromkeys(side.runs for side in sides)))


def _losses(name: str) -> Experiment:
    title, panels, *_ = loss_figures.FIGURES[name]
    runs = dict.fromkeys(side.runs for panel in panels for side in panel.sides)
    return Experiment(f"{title}: training losses", loss_figures.of(name), tuple(runs))


def _alignment(name: str) -> Experiment:
    setting = alignment_figure.SETTINGS[name]
    runs = tuple(dict.fromkeys(side.runs for side in setting.sides))
    shows = f"{setting.title}: gradients and updates, sorted by curvature"
    return Experiment(shows, functools.partial(alignment_figure.run, name), runs)


def _runs_of(gaps) -> tuple[str, ...]:
    return tuple(dict.fromkeys(side.runs for gap in gaps for side in (gap.first, gap.second)))


_MT = ("translation",)
_SECTION31 = tuple(f"section31_{gain}" for gain in section31.GAINS)

EXPERIMENTS: dict[str, Experiment] = {
    "figure1a": _losses("figure1a"),
    "figure1b": Experiment("Figure 1(b): translation, R_med over time", figure1b.run, _MT),
    "section31": Experiment(
        "Section 3.1: smoothness and condition number at the start", section31.run, _SECTION31
    ),
    "table1": _table("table1"),
    "figure2": _losses("figure2"),
    "table2a": _table("table2a"),
    "figure3a": _losses("figure3a"),
    "table2b": _table("table2b"),
    "figure3b": _losses("figure3b"),
    "figure4": _alignment("figure4"),
    "figure5": Experiment(
        "Figure 5: translation, a layer nearly of low rank", low_rank_figures.figure5, _MT
    ),
    "table3": _table("table3"),
    "table4": _table("table4"),
    "table5": _table("table5"),
    "figure6": _losses("figure6"),
    "table6": _table("table6"),
    "figure7": _losses("figure7"),
    "table7": _table("table7"),
    "table8": _table("table8"),
    "figure8": _losses("figure8"),
    "figure9": Experiment(
        "Figure 9: layers with and without low rank", low_rank_figures.figure9, _MT
    ),
    "figure10": Experiment("Figure 10: R_u and R_v over time", low_rank_figures.figure10, _MT),
    "figure11": _alignment("figure11"),
    "figure12": _alignment("figure12"),
    "table9": _table("table9"),
    "figure13a": _losses("figure13a"),
    "table10": _table("table10"),
    "figure13b": _losses("figure13b"),
    "figure14": Experiment(
        "Figure 14: BERT, mean and median r_diag over time", figure14.run, ("bert", "bert_rows")
    ),
    "claim": Experiment(
        "The claim, quantified: ratios of R_med against ratios of speed",
        claim.run,
        _runs_of(claim.GAPS),
    ),
    "theorem1": Experiment(
        "R_med of a two-layer linear network: SGD+M's grows like log d, Adam's tends to 1",
        functools.partial(_linear, "theorem1"),
        minutes=2,
    ),
    "corollary1": Experiment(
        "the same at equal loss", functools.partial(_linear, "corollary1"), minutes=2
    ),
    "theorem2": Experiment(
        "R_diag of its whole Hessian falls during training",
        functools.partial(_linear, "theorem2"),
        minutes=1,
    ),
    "linear_limits": Experiment(
        "where the phenomenon stops: large rates, large initial weights, depth",
        functools.partial(_linear, "limits"),
        minutes=2,
    ),
    "extra_classes": Experiment(
        "R_med at the initial weights against the number of classes", extra_classes.run, minutes=10
    ),
    "extra_full": Experiment(
        "R_med of whole layers against sampled coordinates",
        extra_full.run,
        ("lm_uniform", "lm_full"),
    ),
    "extra_optimizers": _table("extra_optimizers"),
    "extra_parts": Experiment(
        "R_med of fused in-projections, within Q, K and V and between them", extra_parts.run, _MT
    ),
    "extra_preconditioned": Experiment(
        "R_med that the optimizer sees",
        extras.preconditioned,
        ("lm_uniform", "lm_adam", "translation"),
    ),
    "extra_rates": Experiment(
        "R_med and preconditioned sharpness against the learning rate",
        extra_rates.run,
        ("lm_rates", "lm_sharpness"),
    ),
    "extra_size": Experiment("R_med against width and depth", extras.size, _runs_of(extras.SIZES)),
    "extra_tokens": Experiment(
        "R_med of the head by the words' frequency", extra_tokens.run, ("lm_adam", "lm_tokens")
    ),
    "extra_weight_decay": Experiment(
        "Section 4.4: large weight decay", extras.weight_decay, _runs_of(extras.DECAYS)
    ),
}
