"""Which models there are, and which package each needs."""

import importlib
import importlib.util
import os

# Keras reads it when it is imported.
os.environ.setdefault("KERAS_BACKEND", "jax")

# By file, without `_models`: the module that its models need beside JAX, and its distribution.
PACKAGES = {
    "haiku": ("haiku", "dm-haiku"),
    "equinox": ("equinox", "equinox"),
    "nnx": ("flax", "flax"),
    "linen": ("flax", "flax"),
    "keras": ("keras", "keras"),
    "gemma": ("gemma.modules", "gemma"),
    "jraph": ("jraph", "jraph"),
    "diffrax": ("diffrax", "diffrax"),
    "solver": ("optimistix", "optimistix"),
    "numpyro": ("numpyro", "numpyro"),
    "optax": ("optax", "optax"),
    "sequence": ("jax", "jax"),
    "linear_algebra": ("jax", "jax"),
    "convolution": ("jax", "jax"),
    "loss": ("jax", "jax"),
}


def is_installed(file):
    """Whether the package is there; one that is there and cannot be imported is an error later."""
    module = PACKAGES[file][0]
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a module inside a package that is absent
        return False


def models_of(file):
    """The models of one file, by name: functions of a key."""
    return importlib.import_module(f"tests.integration.zoo.{file}_models").MODELS
