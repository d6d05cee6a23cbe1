import atexit
import os
import shutil
import tempfile

# Runs of one config compile the same programs, also in processes that the tests start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="hgeo-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# Compiling takes most of the tests' time, and their programs run once.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true",
)

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def data_dir():
    """The folder with the real data sets; tests that need it are skipped where it is absent."""
    default = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data")
    folder = os.environ.get("HGEO_DATA_DIR", default)
    if not os.path.isdir(folder):
        pytest.skip(f"no real data: set HGEO_DATA_DIR (looked in {folder})")
    return folder
