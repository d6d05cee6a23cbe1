"""Data sets that TensorFlow Datasets has prepared as array_record, read without TensorFlow."""

from collections.abc import Sequence
from typing import Any

from hgeo.data.files import data_root
from hgeo.errors import InputError


def read_prepared(name: str, split: str, data_dir: str) -> Sequence[Any]:
    """The examples of a split: a sequence of dicts.

    Nothing is downloaded or prepared here.

    Args:
      name: of the data set, as TensorFlow Datasets has it.
      split: of the data set.
      data_dir: its folder `tfds` holds the data sets of TFDS.

    Raises:
      InputError: no data folder, no such data set in it as array_record, no such split.
    """
    folder = data_root(data_dir, name, f"tfds/{name}") / "tfds"
    prepare = (
        f"prepare it with: pip install 'hgeo[prepare]' && tfds build {name} "
        f"--data_dir={folder} --file_format=array_record"
    )
    if not any((folder / name).glob("**/dataset_info.json")):
        raise InputError(f"{name} is not prepared in {folder}; {prepare}")
    import tensorflow_datasets as tfds

    try:
        source: Any = tfds.data_source(name, split=split, data_dir=folder, download=False)
        return source
    except ImportError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} in {folder} can't be read as array_record, split {split!r}: "
            f"{_first_line(error)}; {prepare}"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
