"""Trying mutants: a copy of the working tree, a fault in it, the tests, the first that fails."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from tests.mutants.first_failure import VARIABLE
from tests.mutants.mutant import Mutant

ROOT = pathlib.Path(__file__).parent.parent.parent
DATA = ROOT.parent / "shared" / "data"
LIMIT = 1200  # seconds; a run that takes longer hangs
EVERYTHING = ("tests", "--ignore=tests/mutants")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a run of tests.

    Attributes:
      test: the id of the first test that failed; empty for none.
      is_caught: whether that counts as catching a fault.
      why: the first line of its message, or why there is no test.
      seconds: that the run took.
    """

    test: str
    is_caught: bool
    why: str
    seconds: float


def copy_tree(folder: pathlib.Path) -> pathlib.Path:
    """Copies the working tree's files that git knows or does not ignore into a folder."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@contextlib.contextmanager
def with_fault(mutant: Mutant, root: pathlib.Path):
    """The fault is in the tree at `root` for as long as the context lasts."""
    path = root / mutant.file
    whole = path.read_bytes()
    try:
        mutant.apply(root)
        yield
    finally:
        path.write_bytes(whole)


def run_tests(
    tests: Sequence[str], root: pathlib.Path, compiled: pathlib.Path, stop_at_first: bool = True
) -> Outcome:
    """Runs tests in the tree at `root`.

    Args:
      tests: as pytest takes them.
      root: a tree from `copy_tree`.
      compiled: folder of compiled programs that all runs share.
      stop_at_first: whether the first failure ends the run.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        environment = os.environ | {
            VARIABLE: report.name,
            "PYTHONPATH": str(root),
            # A fault may keep the size and the second of a file, which date its compiled form.
            "PYTHONDONTWRITEBYTECODE": "1",
            "HGEO_DATA_DIR": os.environ.get("HGEO_DATA_DIR", str(DATA)),
            "JAX_COMPILATION_CACHE_DIR": str(compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
        command += ["-p", "tests.mutants.first_failure", *(["-x"] if stop_at_first else []), *tests]
        began = time.perf_counter()
        try:
            done = subprocess.run(
                command, cwd=root, env=environment, capture_output=True, text=True, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            return Outcome("", False, f"no end within {LIMIT} s", LIMIT)
        seconds = time.perf_counter() - began
        text = pathlib.Path(report.name).read_text()
    lines = (done.stderr or done.stdout).strip().splitlines()
    if not text:
        return Outcome("", False, f"pytest: {lines[-1] if lines else done.returncode}", seconds)
    found = json.loads(text)
    if found["package"] and not found["package"].startswith(f"{root}{os.sep}"):
        raise RuntimeError(f"the tests ran on {found['package']}, which is not in {root}")
    if "first" in found:
        return Outcome(**found["first"], seconds=seconds)
    if done.returncode == 0:
        return Outcome("", False, "all tests pass", seconds)
    return Outcome("", False, "no test ran" if done.returncode == 5 else lines[-1], seconds)
