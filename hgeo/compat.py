"""Warns of releases of jaxlib that compute wrong numbers."""

import warnings

from jaxlib import version

# On CPUs p·(x − Σ p·x), a softmax's derivative, has errors of its own size if p is the same for
# several x and the arrays are large (https://github.com/jax-ml/jax/issues/39103). 0.10.1 and 0.11.0
# compute it correctly.
WRONG_SUMS = ("0.10.2",)


def warn_of_wrong_sums() -> None:
    """Warns if the installed jaxlib is one of `WRONG_SUMS`."""
    if version.__version__ in WRONG_SUMS:
        warnings.warn(
            f"jaxlib {version.__version__} computes wrong sums on CPUs, so probes may be wrong; "
            "install another release: pip install 'jax!=0.10.2'",
            stacklevel=3,
        )
