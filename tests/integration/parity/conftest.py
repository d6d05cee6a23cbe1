import importlib.util

import pytest

REQUIRED = ("torch", "backpack", "curvlinops", "transformers")


class Skipped(pytest.File):
    """A test file that is not imported, because what it compares with is not installed."""

    def collect(self):
        missing = ", ".join(name for name in REQUIRED if importlib.util.find_spec(name) is None)
        pytest.skip(f"parity with PyTorch needs {missing}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if all(importlib.util.find_spec(name) for name in REQUIRED):
        return None
    return Skipped.from_parent(parent, path=module_path)
