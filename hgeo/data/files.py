"""Reads data files, with one clear error for each fault."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from hgeo.errors import InputError

_GZIP = b"\x1f\x8b"  # no UTF-8 text begins so


def given_root(data_dir: str) -> str:
    """`data_dir`, or else the variable HGEO_DATA_DIR; empty where neither is given."""
    return data_dir or os.environ.get("HGEO_DATA_DIR", "")


def data_root(data_dir: str, what: str, example: str) -> Path:
    """The folder with the data sets: `data_dir`, or else the variable HGEO_DATA_DIR.

    Args:
      data_dir: may be empty.
      what: the data set's name, for the message.
      example: a path that should exist below the folder, for the message.

    Raises:
      InputError: neither is given, or it is not a folder.
    """
    root = given_root(data_dir)
    if not root:
        raise InputError(
            f"{what} needs its files: give --config.data_dir=DIR or set HGEO_DATA_DIR, so that "
            f"DIR/{example} exists"
        )
    if not Path(root).is_dir():
        raise InputError(f"data_dir must be a folder that holds {example}, not {root!r}")
    return Path(root)


def read_lines(path: Path) -> list[str]:
    r"""The lines of a UTF-8 text, gzipped or not; only \n ends a line.

    Raises:
      InputError: no such file, a damaged or truncated gzip, bytes that are not UTF-8, no lines.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz" or content.startswith(_GZIP):
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise InputError(f"no file {path}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file: {error}") from error
    return split_lines(decode(content, str(path)), str(path))


def split_lines(text: str, name: str) -> list[str]:
    """The lines of a text that is not empty."""
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise InputError(f"{name} is empty")
    return lines


def decode(content: bytes, name: str) -> str:
    """Bytes as UTF-8, or an `InputError` with the position of the first wrong byte."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8: {error}") from error


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256 of byte strings and of where each ends."""
    result = hashlib.sha256()
    for part in parts:
        result.update(len(part).to_bytes(8, "little"))
        result.update(part)
    return result.hexdigest()
