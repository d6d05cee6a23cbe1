"""Losses and R_med of a short run of each workload, kept in golden.json.

    python -m tests.golden

measures them anew and rewrites the file: that is how an intended change is accepted. Look at
`git diff tests/golden.json` before it is committed.
"""

import csv
import json
import pathlib
import tempfile

import tests.conftest  # noqa: F401 - the devices and settings of the tests
from tests.experiments import load_config, run
from tests.local_data import write_all

FILE = pathlib.Path(__file__).with_name("golden.json")
COMMON = {"steps": 4, "probe__steps": (4,), "evaluation__steps": ()}
CHANGES = {
    "lm": {"data__split": "train", "probe__layers": (2, 6), "optimizers": ("adagrad", "adam")},
    "translation": {"data__vocabulary_size": None, "probe__layers": (2, 11)},
    "bert": {"data__source": "aclImdb", "model__vocabulary_size": 60, "probe__layers": (6, 13)},
    "resnet": {"probe__layers": (1, 10)},
}
LM = {"data__vocabulary_size": None}


def measured(name: str, data: str) -> dict[str, dict[str, float]]:
    """The training loss at every step, and R_med at the last, by what they are of."""
    changes = COMMON | CHANGES[name] | (LM if name == "lm" else {})
    config = load_config(name, "smoke", data_dir=data, compare=(), **changes)
    with tempfile.TemporaryDirectory() as folder:
        run(config, folder)
        rows = lambda file: csv.DictReader((pathlib.Path(folder) / file).open())
        losses = {f"{r['optimizer']} {r['step']}": float(r["loss"]) for r in rows("losses.csv")}
        r_med = {
            f"{r['optimizer']} {r['layer']}": float(r["value"])
            for r in rows("geometry.csv")
            if r["statistic"] == "r_med"
        }
    return {"loss": losses, "r_med": r_med}


def main() -> None:
    with tempfile.TemporaryDirectory() as data:
        write_all(pathlib.Path(data))
        found = {name: measured(name, data) for name in CHANGES}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
