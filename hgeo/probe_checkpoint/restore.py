"""Restores saved params from an Orbax checkpoint or a safetensors file.

The metadata are compared by name, shape and dtype with the template before an array is read.
Pickles are never loaded.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import NamedSharding

from hgeo.errors import InputError
from hgeo.params.leaf_paths import leaves_by_path, uncut_paths

PyTree = Any

SUFFIX = ".safetensors"
_STEP = re.compile(r"(?:[A-Za-z]\w*[_-])?(\d+)")
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
        item, step, note = _find_item(path)
        return _orbax(item, subtree, step, note)
    if path.suffix != SUFFIX:
        raise InputError(
            f"--checkpoint={checkpoint} is neither an Orbax folder nor a {SUFFIX} file; pickles "
            "(.pkl, .pt, .bin) may run code and are never read"
        )
    return _safetensors(path, subtree)


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
        for name, leaf in _by_path(template, "the template").items()
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
            f"{_some(missing)}, and has beyond it {_some(unexpected)}{hint}"
        )
    differing = [
        f"{name} {found[names[name]]} (template {own})"
        for name, own in wanted.items()
        if found[names[name]] != own
    ]
    if differing:
        raise InputError(f"shapes or dtypes of {saved.path} differ: {_some(differing)}")
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


def _by_path(tree: PyTree, where: Any) -> dict[str, Any]:
    try:
        return leaves_by_path(tree)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _find_item(path: epath.Path) -> tuple[epath.Path, int | None, str]:
    """The folder with the arrays, the step, and a note."""
    item = _item_of(path)
    if item is not None:
        return item, _step_of(path), ""
    steps = {}
    for child in path.iterdir():
        step = _step_of(child)
        if step is not None and child.is_dir() and _item_of(child) is not None:
            steps[step] = child
    if not steps:
        raise InputError(
            f"--checkpoint={path} holds no Orbax checkpoint: neither an item, nor a folder of one, "
            "nor one whose name is a step's number"
        )
    step = max(steps)
    note = f"step {step}, the latest of {_some([str(n) for n in sorted(steps)])}"
    item = _item_of(steps[step])
    assert item is not None
    return item, step, note if len(steps) > 1 else ""


def _item_of(path: epath.Path) -> epath.Path | None:
    """`path` if it is an item, or the one item in it; `None` if it is neither."""
    if _metadata(path) is not None:
        return path
    items = [
        child
        for child in sorted(path.iterdir())
        if child.is_dir() and _step_of(child) is None and _metadata(child) is not None
    ]
    if len(items) > 1:
        raise InputError(
            f"{path} holds several items ({', '.join(item.name for item in items)}): give one of "
            f"them, as {items[0]}"
        )
    return items[0] if items else None


def _step_of(path: epath.Path) -> int | None:
    match = _STEP.fullmatch(path.name)
    return None if match is None else int(match[1])


def _metadata(path: epath.Path) -> Any:
    """The tree of an item's metadata; `None` if there is none."""
    try:
        return ocp.PyTreeCheckpointHandler().metadata(path).tree
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged files raise errors of many classes
        raise InputError(f"{path} has metadata that can't be read: {error}") from error


def _orbax(path: epath.Path, subtree: str, step: int | None, note: str) -> Saved:
    entry, keys = _metadata(path), [key for key in subtree.split("/") if key]
    for depth, key in enumerate(keys):
        if not isinstance(entry, Mapping) or key not in entry:
            inside = "/".join(keys[:depth]) or "the checkpoint"
            has = sorted(entry) if isinstance(entry, Mapping) else "no entries by name"
            raise InputError(f"--subtree={subtree}: {inside} has no {key!r}; it has {has}")
        entry = entry[key]

    def load(names, shardings):
        shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        item = jax.tree.map(shape, entry)
        for key in reversed(keys):
            item = {key: item}
        # Without shardings, arrays are read onto the host, wherever they were saved.
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
        if shardings is not None:
            by_name = {there: shardings[name] for name, there in names.items()}
            restore_args = jax.tree.unflatten(
                jax.tree.structure(item),
                [ocp.ArrayRestoreArgs(sharding=by_name[name]) for name in _by_path(entry, path)],
            )
        arguments = ocp.args.PyTreeRestore(item, restore_args=restore_args, partial_restore=True)
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            restored = checkpointer.restore(path, args=arguments)
        for key in keys:
            restored = restored[key]
        values = leaves_by_path(restored)
        return {name: values[there] for name, there in names.items()}

    arrays = {
        name: Array(tuple(leaf.shape), str(leaf.dtype))
        for name, leaf in _by_path(entry, path).items()
    }
    return Saved("Orbax", path, step, note, arrays, load)


def _safetensors(path: epath.Path, subtree: str) -> Saved:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(f"{path} needs safetensors: pip install safetensors") from error

    arrays, full = {}, {}
    try:
        with safe_open(str(path), framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it isn't a mapping
                own = _below(name, subtree)
                if own in full:
                    raise InputError(
                        f"--subtree={subtree}: {path} has both {full[own]!r} and {name!r}, which "
                        "are one name below it"
                    )
                if own is not None:
                    part = file.get_slice(name)
                    full[own] = name
                    dtype = str(part.get_dtype())
                    arrays[own] = Array(tuple(part.get_shape()), _DTYPES.get(dtype, dtype))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    if not arrays:
        raise InputError(
            f"{path} has no array" + (f" below --subtree={subtree}" if subtree else "")
        )

    def load(names, shardings):
        def sharded(file, there, sharding):
            shape = arrays[there].shape
            if not shape:
                return jax.device_put(file.get_tensor(full[there]), sharding)
            part = file.get_slice(full[there])
            return jax.make_array_from_callback(shape, sharding, lambda index: part[index])

        with safe_open(str(path), framework="np") as file:
            if shardings is None:
                return {name: file.get_tensor(full[there]) for name, there in names.items()}
            return {name: sharded(file, there, shardings[name]) for name, there in names.items()}

    return Saved("safetensors", path, None, "", arrays, load)


def _below(name: str, subtree: str) -> str | None:
    """A name without the prefix; `None` if it lacks the prefix."""
    if not subtree:
        return name
    for mark in "/.":
        start = subtree.replace("/", mark) + mark
        if name.startswith(start):
            return name.removeprefix(start)
    return None


_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
