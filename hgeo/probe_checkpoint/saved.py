"""A saved checkpoint: its metadata, and how its arrays are read."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from etils import epath
from jax.sharding import NamedSharding

from hgeo.errors import InputError
from hgeo.params.leaf_paths import leaves_by_path

_SHOWN = 4


class Array(NamedTuple):
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        """The text for an error message."""
        return f"{self.dtype}{list(self.shape)}"


Shardings: TypeAlias = Mapping[str, NamedSharding] | None


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint with its metadata.

    Attributes:
      kind: `"Orbax"` or `"safetensors"`.
      path: the item's folder, or the file.
      step: that of the folder's name; `None` without a step.
      note: says how the step was chosen.
      arrays: shapes and dtypes by name.
      load: reads arrays, given a mapping from the template's names to these names; each into the
        shards that a second mapping has for it, else onto the host.
    """

    kind: str
    path: epath.Path
    step: int | None
    note: str
    arrays: dict[str, Array]
    load: Callable[[Mapping[str, str], Shardings], dict[str, Any]]


def leaves_of(tree: Any, where: Any) -> dict[str, Any]:
    """The leaves by path; raises an InputError that starts with `where` if two have one path."""
    try:
        return leaves_by_path(tree)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def listed(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    if not names:
        return "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
