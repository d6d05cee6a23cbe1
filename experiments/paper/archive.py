"""Archives of trained sets of runs: their records and sampled entries, without checkpoints.

Another statistic can be made of an archive, and further repeats join those that it holds, without
training them again.
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from etils import epath

from hgeo.errors import InputError
from hgeo.records.run_records import ARCHIVED, write_bytes

# The oldest time that a ZIP file can hold: equal records give equal bytes.
_TIME = (1980, 1, 1, 0, 0, 0)

# Arrays that every repeat keeps; the others, which single figures draw, are the first repeat's.
_OF_EVERY_REPEAT = (".diagonal", ".singular_values")
_FIRST = "repeat_0"


def write_archive(runs: epath.Path, path: epath.Path) -> None:
    """Writes the config, the records and the sampled entries of a set's folder to a ZIP file.

    Args:
      runs: the set's folder.
      path: of the file, which is replaced.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in _files(runs):
            name = file.relative_to(runs).as_posix()
            content = file.read_bytes()
            if file.suffix == ".npz" and _FIRST not in PurePosixPath(name).parts:
                content = _entries(content)
            info = zipfile.ZipInfo(name, _TIME)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    write_bytes(path, buffer.getvalue())


def _files(runs: epath.Path) -> Iterator[epath.Path]:
    # Probes that were stopped before their first measurement have no config and no records.
    probes = [path.parent for path in (runs / "probes").glob("*/config.json")]
    for folder in (runs, *sorted(probes)):
        yield folder / "config.json"
        for run in sorted((folder / "runs").glob("*/repeat_*")):
            yield from sorted(run.glob("*.csv"))
            yield from sorted((run / "arrays").glob("*.npz"))


def _entries(content: bytes) -> bytes:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        kept = {k: arrays[k] for k in arrays.files if k.endswith(_OF_EVERY_REPEAT)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)
    return buffer.getvalue()


def read_archive(path: epath.Path, runs: epath.Path) -> None:
    """Puts an archive's records into a set's folder, which has no runs yet.

    Raises:
      InputError: the archive is damaged, or has files of another kind.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    for name in contents:
        parts = PurePosixPath(name).parts
        if parts[0] not in ("config.json", "runs", "probes") or ".." in parts:
            raise InputError(f"{path} has a file {name!r}; an archive of runs has none")
    for run in {PurePosixPath(name).parts[:3] for name in contents if name.startswith("runs/")}:
        write_bytes(runs.joinpath(*run, ARCHIVED), b"")
    # The config last: a folder with a config has everything.
    for name in sorted(contents, key=lambda name: name == "config.json"):
        write_bytes(runs / name, contents[name])
