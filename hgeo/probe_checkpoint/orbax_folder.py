"""Orbax checkpoints: which folder is meant, its metadata, and how its arrays are read."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from hgeo.errors import InputError
from hgeo.params.leaf_paths import leaves_by_path
from hgeo.probe_checkpoint.saved import Array, Saved, leaves_of, listed

_STEP = re.compile(r"(?:[A-Za-z]\w*[_-])?(\d+)")


def find_orbax(path: epath.Path, subtree: str) -> Saved:
    """The checkpoint in a folder; arguments and errors as of `find_saved`."""
    item, step, note = _find_item(path)
    return _saved(item, subtree, step, note)


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
    note = f"step {step}, the latest of {listed([str(n) for n in sorted(steps)])}"
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


def _saved(path: epath.Path, subtree: str, step: int | None, note: str) -> Saved:
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
                [ocp.ArrayRestoreArgs(sharding=by_name[name]) for name in leaves_of(entry, path)],
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
        for name, leaf in leaves_of(entry, path).items()
    }
    return Saved("Orbax", path, step, note, arrays, load)
