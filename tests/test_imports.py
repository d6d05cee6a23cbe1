"""What `import hgeo` needs, and which way imports point."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# From the bottom up: a module imports from rows above its own, or from its own package.
ROWS = [
    {"arguments", "leaf_paths"},
    {
        "accelerators",
        "config",
        "errors",
        "finite",
        "jaxlib_release",
        "losses",
        "parallel",
        "rows",
        "static_leaves",
        "statistics",
    },
    {"table", "tensorboard"},
    {"probes", "models", "curvature", "learning_rates", "command_line"},
    {
        "linear",
        "optimizers",
        "data",
        "checkpoints",
        "records",
        "schedule",
        "progress",
        "saved_params",
        "probe_target",
    },
    {"workloads", "tables", "locks", "plan", "preemption"},
    {"context", "contractions", "geometry_file", "layer_table"},
    {"adaptive", "recorded"},
    {"measurement", "monitor_arguments"},
    {
        "geometry",
        "monitor",
        "tuning",
        "carry",
        "moments",
        "evaluation",
        "figures",
        "settings",
        "workfolder",
    },
    {"updates", "report", "same_loss"},
    {"run"},
    {"train"},
    {"setup"},
    {"team"},
    {"probing"},
    {"experiment"},
    {"main", "footprint", "tune", "probe_checkpoint"},
]

TOP_LEVEL = "print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def loaded_by(statement):
    code = f"import sys; {statement}; {TOP_LEVEL}"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_import_hgeo_needs_jax_and_numpy_alone():
    more = loaded_by("import hgeo") - loaded_by("import jax, jax.numpy, numpy")
    assert more - sys.stdlib_module_names == {"hgeo"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def group(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "hgeo" else None


@pytest.mark.parametrize("path", sorted((ROOT / "hgeo").rglob("*.py")), ids=lambda p: p.stem)
def test_imports_point_one_way(path):
    relative = path.relative_to(ROOT).with_suffix("").parts
    own = relative[1]
    if own == "__init__":
        return
    row = {name: k for k, names in enumerate(ROWS) for name in names}
    assert own in row, f"hgeo/{own} has no row in this test"
    for module in imported(path):
        other = group(module)
        if other in row and other != own:
            assert row[other] < row[own], f"{path} imports {module}"


def test_configs_import_ml_collections_only():
    for path in (ROOT / "configs").glob("*.py"):
        assert {module.partition(".")[0] for module in imported(path)} == {"ml_collections"}, path


def test_experiments_own_no_training():
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not any(m.startswith("hgeo.training.loop") for m in imported(path)), path
