"""Restores saved params from an Orbax checkpoint or a safetensors file.

The metadata are compared by name, shape and dtype with the template before an array is read.
Pickles are never loaded.
"""

from typing import Any

import jax
import numpy as np
from etils import epath

from hgeo.errors import InputError
from hgeo.params.leaf_paths import uncut_paths
from hgeo.probe_checkpoint.orbax_folder import find_orbax
from hgeo.probe_checkpoint.safetensors_file import SUFFIX, find_safetensors
from hgeo.probe_checkpoint.saved import Array, Saved, Shardings, leaves_of, listed

PyTree = Any


def find_saved(checkpoint: epath.PathLike, subtree: str = "") -> Saved:
    """The checkpoint of a path, with its metadata.

    Args:
      checkpoint: a safetensors file; the folder of an Orbax item, of a step with one item, or of a
        `CheckpointManager`, whose latest step is used.
      subtree: the entry of an Orbax checkpoint, or the start of the names, below which the params
        lie; components joined by "/". Empty for all.

    Raises:
      InputError: there is no checkpoint, or there are several candidates.
    """
    path = epath.Path(checkpoint).expanduser().absolute()
    if not path.exists():
        raise InputError(f"--checkpoint={checkpoint}: there is no such file or folder")
    if path.is_dir():
        return find_orbax(path, subtree)
    if path.suffix != SUFFIX:
        raise InputError(
            f"--checkpoint={checkpoint} is neither an Orbax folder nor a {SUFFIX} file; pickles "
            "(.pkl, .pt, .bin) may run code and are never read"
        )
    return find_safetensors(path, subtree)


def restore(
    saved: Saved, template: PyTree, subtree: str = "", shardings: Shardings = None
) -> PyTree:
    """The params of a template's structure, with the values of a checkpoint.

    Args:
      saved: from `find_saved`.
      template: a pytree of arrays or `jax.ShapeDtypeStruct`s.
      subtree: the argument of `find_saved`, for messages.
      shardings: of each array by its path in the template; the array is read by shards, never
        whole. `None` reads whole arrays onto the host.

    Raises:
      InputError: names, shapes or dtypes differ, or the arrays can't be read.
    """
    wanted = {
        name: Array(tuple(np.shape(leaf)), str(getattr(leaf, "dtype", np.asarray(leaf).dtype)))
        for name, leaf in leaves_of(template, "the template").items()
    }
    found = saved.arrays
    names = _names_there(template, list(wanted), saved)
    missing = [name for name in wanted if names[name] not in found]
    unexpected = sorted(set(found) - set(names.values()))
    if missing or unexpected:
        ends = tuple(f"/{name}" for name in list(wanted)[:1])
        below = [name.removesuffix(ends[0]) for name in found if name.endswith(ends)]
        hint = f"; params seem to lie below --subtree={min(below, key=len)}" if below else ""
        where = f" (--subtree={subtree})" if subtree else ""
        raise InputError(
            f"the names of {saved.path}{where} are not those of the template: it lacks "
            f"{listed(missing)}, and has beyond it {listed(unexpected)}{hint}"
        )
    differing = [
        f"{name} {found[names[name]]} (template {own})"
        for name, own in wanted.items()
        if found[names[name]] != own
    ]
    if differing:
        raise InputError(f"shapes or dtypes of {saved.path} differ: {listed(differing)}")
    try:
        arrays = saved.load(names, shardings)
    except MemoryError:
        raise
    except Exception as error:  # Orbax, TensorStore and safetensors have no common class
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{saved.path} can't be read: {lines[0][:300]}") from error
    return jax.tree.unflatten(jax.tree.structure(template), [arrays[name] for name in wanted])


def _names_there(template: PyTree, wanted: list[str], saved: Saved) -> dict[str, str]:
    """A checkpoint's names of a template's leaves; all follow one convention of spelling."""
    spellings = [
        wanted,
        uncut_paths(template),  # Flax NNX's, where each array is the `value` of a variable
        [f"{name}/value" for name in wanted],  # NNX's names for a template of plain dicts
    ]
    if saved.kind == "safetensors":
        spellings += [[name.replace("/", ".") for name in names] for names in spellings]
    there = max(spellings, key=lambda names: len(saved.arrays.keys() & set(names)))
    first: dict[str, str] = {}
    for name, spelled in zip(wanted, there, strict=True):
        if first.setdefault(spelled, name) != name:
            raise InputError(
                f"{saved.path} has one name, {spelled!r}, for two leaves of the template, "
                f"{first[spelled]!r} and {name!r}: rename one of them"
            )
    return dict(zip(wanted, there, strict=True))
