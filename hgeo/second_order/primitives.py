"""Primitives: which are JAX's own.

Everything that is known of an operation goes by the name of its primitive, and libraries define
primitives too, under names that they choose.
"""

import functools
import sys

from jax.extend import core


@functools.cache
def known_name(primitive: core.Primitive) -> str:
    """The name of a primitive of JAX's own; of any other, one that no rule here knows."""
    return primitive.name if is_own(primitive) else f"{primitive.name} (not of JAX)"


@functools.cache
def is_own(primitive: core.Primitive) -> bool:
    """Whether a primitive is held by one of the modules of the JAX that was imported."""
    # A module may have been imported since the last primitive was asked about.
    names = (name for name in list(sys.modules) if name == "jax" or name.startswith("jax."))
    return primitive in _primitives_in(tuple(names))


@functools.lru_cache(maxsize=1)
def _primitives_in(names: tuple[str, ...]) -> frozenset[core.Primitive]:
    modules = [sys.modules[name] for name in names if name in sys.modules]
    return frozenset(
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, core.Primitive)
    )
