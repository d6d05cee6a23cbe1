"""Numbers of the documentation that no table holds: `python -m experiments.paper.details D`.

D is the work folder in which `experiments.reproduce` has trained translation at `cpu` scale, and
translation with weight decay.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from experiments.paper.ranks import rank_correlation
from experiments.paper.run_configs import config_hash, load_config
from experiments.paper.runs import RUN_SETS
from hgeo.records.layer_numbers import is_whole

RESULTS = Path(__file__).parent.parent / "results"


def main(workdir: Path) -> None:
    """Prints all of them."""
    for table in ("table3", "table4", "table5"):
        after_first_checkpoint(table)
    without_random_targets()
    repeats_apart(_run_folder(workdir, "translation"))
    for name in ("translation", "translation_weight_decay"):
        step = load_config(name, "cpu").probe.steps[-1]
        for optimizer in ("sgdm", "adam"):
            attention_norms(_run_folder(workdir, name) / "runs" / optimizer, step)


def after_first_checkpoint(table: str) -> None:
    """The side of 1 of the ratios, ours and the paper's."""
    own = [r for r in _rows(table) if r["paper_ratio"] and r["checkpoint"] != "epoch 1"]
    ours, paper = ([float(row[key]) > 1 for row in own] for key in ("ours_ratio", "paper_ratio"))
    same = sum(a == b for a, b in zip(ours, paper, strict=True))
    print(f"{table} after epoch 1: above 1 {sum(ours)}, same side {same}, of {len(own)}")


def without_random_targets() -> None:
    """The rank correlation of `claim` over the other settings."""
    own = [r for r in _rows("claim") if r["speed_ratio"] and "random" not in r["setting"]]
    speed, ratio = ([float(row[key]) for row in own] for key in ("speed_ratio", "ratio_median"))
    rho = rank_correlation(speed, ratio)[0]
    print(f"claim without random targets: ρ {rho:.2f} over {len(own)}")


def repeats_apart(folder: Path) -> None:
    """In how many layers the ratio is above 1 in each repeat, and its median."""
    runs = [folder / "runs" / name for name in ("sgdm", "adam")]
    for repeat in range(len(list(runs[0].glob("repeat_*")))):
        sgdm, adam = (_r_med(run, repeat) for run in runs)
        for step in load_config("translation", "cpu").probe.steps[1:]:
            ratios = np.array([sgdm[at] / adam[at] for at in sgdm if at[0] == step])
            above = (ratios > 1).sum()
            print(f"repeat {repeat + 1}, step {step}: {above} ({np.median(ratios):.3g})")


def attention_norms(run: Path, step: int) -> None:
    """Norms of the first encoder block's query, key and value weights."""
    if not (run / "repeat_0" / "checkpoints").exists():
        print(f"{run}: no checkpoints")
        return
    with ocp.CheckpointManager(run / "repeat_0" / "checkpoints") as saved:
        params = saved.restore(step, args=ocp.args.StandardRestore())["variables"]["params"]
    kernel = np.asarray(params["encoder_0"]["attention"]["in_proj"]["kernel"])
    norms = [f"{np.linalg.norm(part):.2f}" for part in np.split(kernel, 3, axis=1)]
    print(f"{run}: norms of query, key, value {', '.join(norms)}")


def _run_folder(workdir: Path, name: str) -> Path:
    digest = config_hash(load_config(name, "cpu"))
    return workdir.absolute() / f"{RUN_SETS[name].config}-{digest}"


def _rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _r_med(run: Path, repeat: int) -> dict[tuple[int, int], float]:
    with (run / f"repeat_{repeat}" / "geometry.csv").open(newline="") as file:
        own = [row for row in csv.DictReader(file) if row["statistic"] == "r_med"]
    values = {(int(row["step"]), int(row["layer_number"])): float(row["value"]) for row in own}
    return {(step, layer): value for (step, layer), value in values.items() if is_whole(layer)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
