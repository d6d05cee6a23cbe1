import os

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
