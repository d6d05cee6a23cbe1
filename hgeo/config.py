"""The type of a config."""

from typing import Any, TypeAlias

# An `ml_collections.ConfigDict`, whose keys a type checker can't know.
Config: TypeAlias = Any
