"""A pytest plugin: writes the first failing test of a run to the file named by FIRST_FAILURE."""

import json
import os
import pathlib
import sys

import pytest

VARIABLE = "FIRST_FAILURE"

# Code that does not run is no fault that a test has to find.
NOT_RUN = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError")

_found: dict[str, object] = {}


def _note(nodeid: str, is_caught: bool, why: str):
    _found.setdefault("first", {"test": nodeid, "is_caught": is_caught, "why": why})


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Of what fails while tests are collected only an assertion counts."""
    report = yield
    if report.failed:
        error = report.call.excinfo.value if hasattr(report, "call") else None
        cause = error.__cause__ if error is not None and error.__cause__ is not None else error
        why = f"{type(cause).__name__}: {cause}".splitlines()[0]
        _note(report.nodeid, isinstance(cause, AssertionError), why)
    return report


def pytest_runtest_logreport(report):
    """A test that fails in its body or its fixtures has caught the fault."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = str(crash.message if crash else report.longrepr).strip().splitlines()
        why = lines[0] if lines else ""
        _note(report.nodeid, not why.startswith(NOT_RUN), why)


def pytest_sessionfinish(session):
    """Writes what was seen and whose code was tested."""
    package = sys.modules.get("hgeo")
    _found["package"] = str(package.__file__) if package else ""
    _found["collected"] = session.testscollected
    pathlib.Path(os.environ[VARIABLE]).write_text(json.dumps(_found))
