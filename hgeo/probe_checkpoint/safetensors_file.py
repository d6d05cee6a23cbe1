"""Safetensors files: their names, and how their arrays are read."""

import jax
from etils import epath

from hgeo.errors import InputError
from hgeo.probe_checkpoint.saved import Array, Saved

SUFFIX = ".safetensors"

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def find_safetensors(path: epath.Path, subtree: str) -> Saved:
    """The checkpoint in a file; arguments and errors as of `find_saved`."""
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
