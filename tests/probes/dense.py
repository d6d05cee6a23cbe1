"""Dense matrices in float64, by `jax.hessian`: the truth that probes are held to."""

import jax
import jax.numpy as jnp
import pytest

from hgeo.losses import as_weighted

# Compiling is most of the time of these tests.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def dense_hessian(loss, params, batch, layer):
    """H of the mean loss in a layer's flat vector."""

    def mean(params, batch, vector):
        value = as_weighted(loss, layer.replace(params, vector), batch)
        return value.total / value.weight

    compiled = jax.jit(jax.hessian(mean, argnums=2), compiler_options=QUICK)
    return compiled(params, batch, layer.ravel(params))


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def error(found, truth):
    """The largest difference in units of the largest entry."""
    return float(jnp.max(jnp.abs(found - truth)) / jnp.max(jnp.abs(truth)))


# Families that take the longest to compile.
LARGE = ("bert_block", "decoder_block", "convolution", "batch_norm")


def slow(names, marked):
    """Names as parameters of a test, some of them marked as slow."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in marked else n for n in names]
