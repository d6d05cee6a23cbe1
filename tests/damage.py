"""Damage to files, and what a work folder holds byte by byte."""

import pathlib


def flip(path: pathlib.Path, place: float, bit: int = 4) -> None:
    """Turns one bit of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    content[min(int(place * len(content)), len(content) - 1)] ^= 1 << bit
    path.write_bytes(content)


def truncate(path: pathlib.Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def array_files(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    """The files of a checkpoint that hold its arrays, the largest first."""
    files = [p for p in checkpoint.rglob("d/*") if p.is_file()]
    return sorted(files, key=lambda p: (-p.stat().st_size, p.name))


def spoil(checkpoint: pathlib.Path) -> None:
    """Flips a bit in several places of every file with arrays."""
    for path in array_files(checkpoint):
        for place in (0.2, 0.35, 0.5, 0.65, 0.8):
            flip(path, place)


def spoil_steps(workdir: pathlib.Path, name: str, *steps: int) -> None:
    """Spoils the checkpoints of a run at these steps."""
    for step in steps:
        spoil(checkpoints(workdir, name) / str(step))


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())


def contents(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {path: path.read_bytes() for path in files(folder)}


def checkpoints(workdir: pathlib.Path, name: str, repeat: int = 0) -> pathlib.Path:
    return pathlib.Path(workdir) / "runs" / name / f"repeat_{repeat}" / "checkpoints"
