"""Tells JAX's primitives from those of other libraries.

hgeo's rules are looked up by a primitive's name, and another library may use the same name.
"""

import functools
import sys

from jax.extend import core


@functools.cache
def known_name(primitive: core.Primitive) -> str:
    """The name of a JAX primitive; for any other primitive, a name that no rule has."""
    return primitive.name if is_own(primitive) else f"{primitive.name} (not of JAX)"


@functools.cache
def is_own(primitive: core.Primitive) -> bool:
    """Whether an imported module of JAX defines the primitive."""
    # Read on each call, since more modules may have been imported.
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
