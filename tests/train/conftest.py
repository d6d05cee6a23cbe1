import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def _optax_promotes_dtypes():
    """Optax's bias correction raises a Python float to an int32 power, which strict mode forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True, scope="session")
def _compile_once(tmp_path_factory):
    """Runs of one config compile the same programs; keep them on disk for the session."""
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield
    jax.config.update("jax_compilation_cache_dir", None)
