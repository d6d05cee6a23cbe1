import atexit
import gc
import os
import pathlib
import shutil
import tempfile
import zlib

# Runs of the same config compile the same programs, also in processes that the tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="hgeo-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

from tests.xla_options import FLAGS

os.environ.setdefault("XLA_FLAGS", FLAGS)

import hypothesis
import jax
import psutil
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The same cases every time, without a deadline that a slow machine could miss.
hypothesis.settings.register_profile("hgeo", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("hgeo")

MOST_MEMORY = 2 * 2**30


@pytest.fixture(scope="module", autouse=True)
def _programs_are_dropped():
    """After a module that leaves the process large: JAX keeps every compiled program."""
    yield
    if psutil.Process().memory_info().rss > MOST_MEMORY:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def data_dir():
    """The folder with the real data sets; tests that need it are skipped where it is absent."""
    default = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data")
    folder = os.environ.get("HGEO_DATA_DIR", default)
    if not os.path.isdir(folder):
        pytest.skip(f"no real data: set HGEO_DATA_DIR (looked in {folder})")
    return folder


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """A folder with small local copies of every data set."""
    from tests.local_data import write_all

    folder = tmp_path_factory.mktemp("small_data")
    write_all(folder)
    return str(folder)


@pytest.fixture(scope="module")
def calm(request, tmp_path_factory):
    """The folder of an undisturbed run of the module's `config()`, which no test may change."""
    from tests.experiments import run

    folder = tmp_path_factory.mktemp("calm")
    run(request.module.config(), folder)
    return folder


@pytest.fixture
def work(calm, tmp_path):
    """A copy of `calm` that a test may change."""
    return pathlib.Path(shutil.copytree(calm, tmp_path / "work"))


INTEGRATION = pathlib.Path(__file__).parent / "integration"


def pytest_addoption(parser):
    parser.addoption(
        "--share",
        metavar="K/N",
        help="run the K-th of N shares of the tests; N runs take all of them",
    )
    parser.addoption(
        "--time-report",
        action="store_true",
        help="print time by test file, spent tracing, lowering and compiling, and peak memory",
    )


def pytest_configure(config):
    if config.getoption("time_report"):
        config.pluginmanager.import_plugin("tests.time_report")


def pytest_collection_modifyitems(config, items):
    """Marks tests below tests/integration that are not slow; deselects other shares."""
    for item in items:
        if item.path.is_relative_to(INTEGRATION) and not item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.integration)
    share = config.getoption("share")
    if share is not None:
        number, shares = _share(share)
        left = [item for item in items if _share_of(item, shares) != number]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_sessionfinish(session, exitstatus):
    """A share may have no tests."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("share"):
        session.exitstatus = pytest.ExitCode.OK


def _share_of(item, shares):
    """All cases of a slow test fall into one share, where their fixtures are set up once."""
    name = item.nodeid
    if item.get_closest_marker("slow") is not None:
        name = name.partition("[")[0]
    return zlib.crc32(name.encode()) % shares + 1


def _share(text):
    number, _, shares = text.partition("/")
    if not (number.isdecimal() and shares.isdecimal() and 1 <= int(number) <= int(shares)):
        raise pytest.UsageError(f"--share must be K/N with K from 1 to N, not {text!r}")
    return int(number), int(shares)
