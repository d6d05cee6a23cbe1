"""What `import hgeo` needs, and which way imports point."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# From the ground up: a package uses what stands above it here, and of its own row where no circle
# arises.
TIERS = [
    {
        *("arguments", "compat", "config", "devices", "errors", "losses", "params", "sharding"),
        "statistics",
    },
    {"batching", "curvature", "data", "models", "optimizers", "records"},
    {"report", "second_order", "workloads"},
    {"probes", "training"},
    {"measure"},
    {"experiment"},
    {"command_line", "footprint", "main", "probe_checkpoint", "tune"},
]
TIER = {name: number for number, names in enumerate(TIERS) for name in names}
LIBRARY = {
    *("batching", "curvature", "devices", "losses", "measure", "params", "probes", "records"),
    *("second_order", "sharding", "statistics"),
}

TOP_LEVEL = "print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def loaded_by(statement):
    code = f"import sys; {statement}; {TOP_LEVEL}"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_import_hgeo_needs_jax_and_numpy_alone():
    more = loaded_by("import hgeo") - loaded_by("import jax, jax.numpy, numpy")
    assert more - sys.stdlib_module_names == {"hgeo"}


def imported(path):
    """The modules that a file names in its imports, those of other packages included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path} has a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package(module):
    """`probes` of `hgeo.probes.spectrum`, or `None` outside hgeo."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "hgeo" else None


FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted((ROOT / "hgeo").rglob("*.py"))
}


def own_imports(name):
    """The modules of hgeo that a module of hgeo imports."""
    return {other for other in imported(FILES[name]) if other in FILES}


@pytest.mark.parametrize("name", FILES)
def test_imports_point_to_the_ground(name):
    own = package(name)
    if own == "__init__":
        return
    assert own in TIER, f"hgeo/{own} has no tier in this test"
    for module in imported(FILES[name]):
        other = package(module)
        if other in TIER and other != own:
            assert TIER[other] <= TIER[own], f"{name} imports {module}, from a tier above it"
        knows_no_config = own in LIBRARY or own == "report"
        assert not (knows_no_config and other == "config"), f"{name} imports {module}"
        assert not (own == "training" and other in {"config", "optimizers", "report"}), module


# Nothing behind `resolve` reads a config, but for a workload its own blocks.
DOOR = {
    *("command_line", "footprint", "tune"),
    *(
        f"experiment.{name}"
        for name in ("plan", "resolve", "run_experiment", "tuning", "validation")
    ),
}


def test_configs_are_read_at_the_door_alone():
    readers = {name.partition(".")[2] for name in FILES if "hgeo.config" in own_imports(name)}
    assert {name for name in readers if not name.startswith("workloads.")} == DOOR


def test_no_module_imports_itself_by_a_detour():
    left = {name: own_imports(name) - {name} for name in FILES}
    while free := [name for name, others in left.items() if not others]:
        left = {name: others.difference(free) for name, others in left.items() if others}
    assert not left, f"a circle among {sorted(left)}"


def test_few_modules_stand_at_the_top():
    assert len(list((ROOT / "hgeo").glob("*.py"))) <= 14


def test_nothing_imports_experiments():
    for name, path in FILES.items():
        assert not any(module.startswith("experiments") for module in imported(path)), name


def test_configs_import_ml_collections_and_their_defaults_only():
    for path in (ROOT / "configs").glob("*.py"):
        roots = {module.partition(".")[0] for module in imported(path)}
        assert roots <= {"collections", "configs", "ml_collections", "typing"}, path


def test_experiments_own_no_training():
    for path in (ROOT / "experiments").rglob("*.py"):
        assert not any(m.startswith("hgeo.training.loop") for m in imported(path)), path
