"""A cache of arrays that are slow to make, by the digest of all that they are made from."""

import hashlib
import json
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hgeo.data.files import digest

FORMAT = 3
DIGEST = "sha256"


def cached_arrays(
    folder: str | None,
    name: str,
    made_from: Mapping[str, Any],
    make: Callable[[], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """What `make` returns, read from the cache if it has a whole file.

    The file, an `.npz` that is read without pickle, appears whole or not at all. A file that can't
    be read is rebuilt with a warning. A file that can't be written gives a warning.

    Args:
      folder: of the cache; `None` or an empty string, no cache.
      name: the start of the file's name.
      made_from: JSON-able; all that the arrays depend on, including the data's digest.
      make: returns arrays of numbers or fixed-width strings by name.
    """
    if not folder:
        return make()
    key = json.dumps({"format": FORMAT, **made_from}, sort_keys=True)
    path = Path(folder).expanduser() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {array: file[array] for array in file.files}
            # The checksums of zip do not cover all of a file: a shape can change undetected.
            if arrays.pop(DIGEST).item() != _digest(arrays):
                raise ValueError("its arrays are not those that were written")
            return arrays
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            warnings.warn(f"{path} is damaged ({error}) and is rebuilt", stacklevel=2)
    arrays = make()
    try:
        _write(path, arrays)
    except OSError as error:
        warnings.warn(f"{path} could not be written: {error}", stacklevel=2)
    return arrays


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            whole: dict[str, Any] = {**arrays, DIGEST: np.array(_digest(arrays))}
            np.savez_compressed(file, **whole)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _digest(arrays: dict[str, np.ndarray]) -> str:
    parts = []
    for name, array in sorted(arrays.items()):
        parts += [f"{name} {array.dtype.str} {array.shape}".encode(), array.tobytes()]
    return digest(parts)
