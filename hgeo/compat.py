"""Releases of jaxlib that compile programs to wrong numbers."""

import warnings

from jaxlib import version

# On CPUs p·(x − Σ p·x), a softmax's derivative, comes out wrong by as much as its own size where p
# is the same for several x and the arrays are large (https://github.com/jax-ml/jax/issues/39103).
# 0.10.1 and 0.11.0 do it right.
WRONG_SUMS = ("0.10.2",)


def warn_of_wrong_sums() -> None:
    """Warns where the jaxlib at hand is one of `WRONG_SUMS`."""
    if version.__version__ in WRONG_SUMS:
        warnings.warn(
            f"jaxlib {version.__version__} gives wrong sums on CPUs, and probes cannot tell; hgeo "
            "excludes it: pip install 'jax!=0.10.2' brings another",
            stacklevel=3,
        )
