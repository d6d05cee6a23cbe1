"""Checks of the layers and points that probes take."""

from collections.abc import Mapping
from typing import Any

from hgeo.params.layers import Layer


def check_layers(layers: Any) -> None:
    """Raises a TypeError unless `layers` maps names to layers."""
    others = _values("layers", layers, "hgeo.find_layers gives")
    _refuse("layers", "hgeo.find_layers gives", [x for x in others if not isinstance(x, Layer)])


def check_along(along: Any) -> None:
    """Raises unless `along` maps names to coordinates or directions of the right shape."""
    maker = "hgeo.sample_coordinates gives, or Directions"
    others = _values("coordinates", along, maker)
    _refuse("coordinates", maker, [x for x in others if not hasattr(x, "points")])
    for chosen in along.values():
        chosen.check()


def _values(what: str, given: Any, maker: str) -> list[Any]:
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{what} must be what {maker}, a mapping from names, not a {type(given).__name__}"
        )
    return list(given.values())


def _refuse(what: str, maker: str, others: list[Any]) -> None:
    if others:
        raise TypeError(f"{what} must be what {maker}, not a mapping to {type(others[0]).__name__}")
