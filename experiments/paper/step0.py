"""Step 0, at which no optimizer has acted yet: which setting of the probe gives which table.

The paper's tables 1, 2(a), 2(b) and 9 have numbers there, and 2(a) and 9 differ although their
models, data and weights are drawn alike. Each setting is probed once; its rows are added to
`step0.csv` at once, and a setting whose rows are there is not probed again.
"""

import csv
import dataclasses
import functools
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import hgeo
from experiments.paper import paper_numbers
from experiments.paper.ranks import rank_correlation
from experiments.paper.ratio_table import with_std
from experiments.paper.run_configs import load_config
from experiments.paper.training import ReproductionContext
from experiments.paper.verdicts import read_rows
from hgeo.config import Config
from hgeo.devices import make_mesh
from hgeo.errors import InputError
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.resolve import resolve
from hgeo.experiment.validation import check_against_data
from hgeo.records.run_records import write_text
from hgeo.report.text_table import Table
from hgeo.workloads.workload import Workload

# By run set: the tables whose step 0 it has, with their checkpoint there.
TABLES = {
    "translation": {"2a": "epoch 0", "9": "epoch 0"},
    "translation_random": {"2b": "epoch 0"},
    "bert": {"1": "iteration 0"},
}
RATE = 0.1  # of dropout, the tutorial's
MASKS = "dropout_key"


@dataclasses.dataclass(frozen=True)
class Scale:
    """What is varied at a scale.

    Attributes:
      widths: of the translation models.
      batches: sizes of the Hessian's batch.
      coordinates: of each layer.
      keys: of dropout.
      bert: whether BERT is probed, whose layers are the paper's at `paper` alone.
    """

    widths: tuple[int, ...]
    batches: tuple[int, int]
    coordinates: int
    keys: int
    bert: bool = False


SCALES = {
    "smoke": Scale((16, 32), (8, 16), 8, 2),
    "cpu": Scale((128, 512), (64, 256), 200, 3),
    "gpu": Scale((128, 512), (64, 240), 200, 3, bert=True),
    "paper": Scale((128, 512), (64, 960), 200, 3, bert=True),
}
HEADS = {512: 8}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to probe.

    Attributes:
      runs: the run set whose config it takes.
      width: of the model; 0 for that of the config.
      batch: the number of examples.
      dropout: the key of its masks; −1 for no dropout.
    """

    runs: str
    width: int
    batch: int
    dropout: int

    def __str__(self) -> str:
        """The setting in a table."""
        width = f", width {self.width}" if self.width else ""
        masks = "no dropout" if self.dropout < 0 else f"dropout, key {self.dropout}"
        return f"{self.runs}{width}, batch {self.batch}, {masks}"


def settings(scale: str) -> Iterator[Setting]:
    """All settings of a scale, narrow models first.

    Raises:
      InputError: an unknown scale.
    """
    if scale not in SCALES:
        raise InputError(f"unknown scale {scale!r}; scales are {', '.join(SCALES)}")
    chosen = SCALES[scale]
    models = [(runs, w) for w in chosen.widths for runs in ("translation", "translation_random")]
    models += [("bert", 0)] if chosen.bert else []
    for runs, width in models:
        for batch in chosen.batches:
            for dropout in range(-1, chosen.keys):
                yield Setting(runs, width, batch, dropout)


def step0(context: ReproductionContext, only: str = "") -> Table:
    """Probes the settings that `step0.csv` lacks; gives the comparison with the paper.

    Args:
      context: where it runs.
      only: a text that the names of the settings to probe contain.

    Raises:
      InputError: no setting has such a name.
    """
    path = context.folder / "step0.csv"
    every = list(settings(context.scale))
    chosen = [setting for setting in every if only in str(setting)]
    if not chosen:
        names = "; ".join(map(str, every))
        raise InputError(f"no setting's name has {only!r}; settings are {names}")
    context.folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(Path(context.folder), "step0")
    done = {(row["scale"], row["setting"]) for row in rows}
    for setting in chosen:
        if (context.scale, str(setting)) not in done:
            start = time.monotonic()
            rows += probe(setting, context)
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(path, buffer.getvalue())
            context.console.print(f"{setting}: {time.monotonic() - start:.0f} s", highlight=False)
    table = comparison([row for row in rows if row["scale"] == context.scale])
    write_text(context.folder / "step0.md", table.markdown())
    return table


def probe(setting: Setting, context: ReproductionContext) -> list[dict[str, Any]]:
    """A row for each layer that a table of the setting's runs has."""
    same = dataclasses.replace(setting, dropout=min(setting.dropout, 0))
    numbers, measure, variables, key = _prepared(same, context)
    if setting.dropout >= 0:
        masks = jax.random.fold_in(key, setting.dropout)
        variables = {**variables, MASKS: jax.random.key_data(masks)}
    loss, entries = measure.loss(variables), measure.sampled(variables)
    return [
        {
            "scale": context.scale,
            "setting": str(setting),
            **dataclasses.asdict(setting),
            "coordinates": len(own),
            "loss": f"{loss:.6g}",
            "layer": number,
            "name": name.removesuffix("/kernel"),
            "r_med": f"{float(hgeo.r_med(own)):.6g}",
            "q95_over_median": f"{float(hgeo.q95_over_median(own)):.6g}",
        }
        for number, (name, own) in zip(numbers, entries.items(), strict=True)
    ]


@functools.lru_cache(maxsize=1)  # masks of all keys go through one compiled program
def _prepared(setting: Setting, context: ReproductionContext):
    """The layers' numbers, the probe, the initial variables and the key of all dropout."""
    config = load_config(setting.runs, context.scale, overrides=context.overrides)
    layers = {n.layer for table, at in TABLES[setting.runs].items() for n in _of_paper(table, at)}
    with config.unlocked():
        _change(config, setting, context)
    resolved = resolve(config)
    workload = resolved.read_workload()
    numbers = tuple(sorted(layers & set(range(1, len(workload.layer_paths) + 1))))
    settings = dataclasses.replace(resolved.probe, layers=numbers)
    resolved = dataclasses.replace(resolved, probe=settings)
    mesh = make_mesh()
    check_against_data(resolved, workload, mesh)
    init_key, coordinates_key, dropout_key = jax.random.split(jax.random.key(resolved.seed), 3)
    variables = workload.init(init_key)
    shapes = variables
    if setting.dropout >= 0:
        workload = _with_masks(workload)
        shapes = {**variables, MASKS: jax.random.key_data(dropout_key)}
    measure = GeometryProbe(settings, workload, shapes, coordinates_key, mesh)
    return numbers, measure, variables, dropout_key


def _with_masks(workload: Workload) -> Workload:
    """The workload whose probed loss has dropout, by the key that stands beside its params."""

    def outputs(variables, batch):
        rest = {name: values for name, values in variables.items() if name != MASKS}
        key = jax.random.wrap_key_data(variables[MASKS])
        return workload.with_dropout(key).outputs(rest, batch)

    return dataclasses.replace(workload, outputs=outputs)


def _change(config: Config, setting: Setting, context: ReproductionContext) -> None:
    chosen = SCALES[context.scale]
    config.data_dir = context.data_dir
    config.probe.batch_size = setting.batch
    config.probe.num_coordinates = chosen.coordinates
    config.probe.microbatch_size = min(chosen.batches)
    config.probe.statistics = ("r_med",)
    if setting.width:
        config.model.width = config.model.ffn_width = setting.width
        config.model.num_heads = HEADS.get(setting.width, config.model.num_heads)
        config.model.dropout = RATE


def comparison(rows: Sequence[Mapping[str, Any]]) -> Table:
    """For each table and setting, how far ours lie from the paper's numbers at step 0.

    Keys of dropout are one setting: R_med of a layer is the geometric mean over them.
    """
    found = []
    for setting, (runs, ours_of) in _by_setting(rows).items():
        for table, checkpoint in TABLES[runs].items():
            paper = {n.layer: n.value for n in _of_paper(table, checkpoint)}
            both = sorted(paper.keys() & ours_of.keys())
            ours, theirs = (np.array([of[n] for n in both]) for of in (ours_of, paper))
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log(ours / theirs)
                mean, distance = np.mean(logs), np.sqrt(np.mean(logs**2))
            rho = float(rank_correlation(ours, theirs)[0])
            found.append((table, float(distance), setting, len(logs), float(np.exp(mean)), rho))
    found.sort(key=lambda row: (row[0], row[1]))
    header = ["#", "setting", "table", "layers", "ours / paper", "typical factor", "ρ"]
    cells = [
        [
            str(k + 1),
            setting,
            table,
            str(number),
            with_std(ratio),
            with_std(float(np.exp(distance))),
            with_std(rho),
        ]
        for k, (table, distance, setting, number, ratio, rho) in enumerate(found)
    ]
    notes = []
    for table in dict.fromkeys(row[0] for row in found):
        own = [row for row in found if row[0] == table]
        ranked = max(own, key=lambda row: row[5])
        notes.append(
            f"Table {table} is closest in size to {own[0][2]}: a factor of "
            f"{np.exp(own[0][1]):.2f} typically. Its order of layers is closest to {ranked[2]}: "
            f"ρ {ranked[5]:.2f}."
        )
    notes.append(
        "ours / paper: ratio of geometric means over the layers; typical factor: exp of the root "
        "mean square of the logarithm of a layer's ratio, by which the settings of a table are "
        "sorted; R_med has eps 0, and is the geometric mean over the keys of dropout."
    )
    return Table("Step 0: ours by setting, and the paper's", header, cells, notes)


def _by_setting(
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[str, dict[int, float]]]:
    """By setting, with all its keys of dropout: the run set, and R_med by layer."""
    logs: dict[str, dict[int, list[float]]] = {}
    keys: dict[str, set[str]] = {}
    runs: dict[str, str] = {}
    for row in rows:
        name, _, key = row["setting"].partition(", key ")
        runs[name] = row["runs"]
        keys.setdefault(name, set()).add(key)
        own = logs.setdefault(name, {}).setdefault(int(row["layer"]), [])
        with np.errstate(divide="ignore"):
            own.append(float(np.log(float(row["r_med"]))))
    named = lambda name: name + (f", {len(keys[name])} key(s)" if "" not in keys[name] else "")
    return {
        named(name): (runs[name], {n: float(np.exp(np.mean(values))) for n, values in own.items()})
        for name, own in logs.items()
    }


def _of_paper(table: str, checkpoint: str) -> list[paper_numbers.Number]:
    """A table's numbers at step 0, one a layer: all optimizers start from the same weights."""
    numbers = [n for n in paper_numbers.of_table(table).values() if n.checkpoint == checkpoint]
    return list({n.layer: n for n in numbers if "/" not in n.series}.values())
