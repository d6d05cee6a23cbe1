"""Prints what every model of the zoo takes: `python -m tests.integration.zoo [--output FILE]`."""

import argparse
import importlib.metadata
import pathlib

import jax

from tests.integration.zoo.comparison import lenient, timed
from tests.integration.zoo.registry import PACKAGES, is_installed, models_of

HEADER = (
    "| model | package | mode | why | relative error | compile, s (plain) | run, ms (plain) |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def row(file, model, build):
    with lenient(double=True):
        try:
            found = timed(build(jax.random.key(0)))
        except Exception as failure:  # of one model, which is then what its row says
            reason = f"{type(failure).__name__}: {failure}".splitlines()[0].replace("|", "/")
            cells = ("none", reason, "", "", "")
        else:
            cells = (
                found.choice.mode.replace("_", " "),
                found.choice.reason,
                f"{found.error:.0e}",
                "{:.1f} ({:.1f})".format(*found.compile),
                "{:.2f} ({:.2f})".format(*(1000 * seconds for seconds in found.run)),
            )
    distribution = PACKAGES[file][1]
    package = f"{distribution} {importlib.metadata.version(distribution)}"
    return f"| {model.replace('_', ' ')} | {package} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, help="a file to write the table to")
    parser.add_argument("--only", nargs="*", default=list(PACKAGES), choices=list(PACKAGES))
    arguments = parser.parse_args()
    lines = [HEADER]
    print(HEADER)
    for file in arguments.only:
        if not is_installed(file):
            print(f"{PACKAGES[file][1]} is not installed: its models are left out")
            continue
        for model, build in models_of(file).items():
            lines.append(row(file, model, build))
            print(lines[-1], flush=True)
    if arguments.output is not None:
        arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
