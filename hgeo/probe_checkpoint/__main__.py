"""Command line: R_med and other statistics of a saved checkpoint.

    python -m hgeo.probe_checkpoint --checkpoint=PATH --target=MODULE:FUNCTION --out=DIR
        [--statistics=r_med,r_diag] [--layers=REGEX] [--mesh=data:2,fsdp:4] [--shard=fsdp]

PATH is an Orbax checkpoint (the folder of an item, of a step with one item, or of a
CheckpointManager, whose latest step is used) or a safetensors file. FUNCTION takes no argument and
returns `(loss, template, batch)`: `loss(params, batch)` or a pair `(outputs, head)`; a pytree of
arrays or `jax.ShapeDtypeStruct`s with the params' structure, shapes and dtypes; and the batch. With
--mesh each array is read into its shards, never whole. The function `shardings(mesh, params)` of
MODULE gives them as a pytree of `NamedSharding`s or `PartitionSpec`s. Without it, --shard splits
each matrix along its longest axis that divides.

The command writes `geometry.csv`, `table.md`, `restored.json` and, for `r_med`, `r_med.png` into
DIR. The exit code is 2 for bad input and 3 if the loss or a Hessian entry is not finite.
"""

import argparse
import fnmatch
import json
import math
import sys
import textwrap
import warnings
from typing import Any, NoReturn

import jax
import numpy as np
from absl import logging
from etils import epath

from hgeo.command_line import DIVERGED, INTERRUPTED, fail
from hgeo.errors import InputError
from hgeo.measure.monitor import Monitor
from hgeo.measure.monitor_arguments import STATISTICS_OF_LOOPS, check_statistics
from hgeo.measure.named import OF_UPDATES
from hgeo.params.layers import find_layers
from hgeo.params.leaf_paths import leaves_by_path
from hgeo.probe_checkpoint.restore import find_saved, restore
from hgeo.probe_checkpoint.saved import Saved
from hgeo.probe_checkpoint.shards import (
    batch_axes,
    parse_mesh,
    shardings_along,
    shardings_by_function,
)
from hgeo.probe_checkpoint.target import Target, load_target
from hgeo.records.rows import GeometryRow, entries_not_finite
from hgeo.records.run_records import read_rows, remove_partial, write_bytes, write_text
from hgeo.report.figures import png, r_med_of_layers
from hgeo.report.layer_table import layer_table
from hgeo.report.text_table import WIDTH, shorten
from hgeo.second_order.adjoint_weighted import REMAT
from hgeo.second_order.modes import MODES
from hgeo.training.checkpoints import digest

GEOMETRY, TABLE, FIGURE, RESTORED = "geometry.csv", "table.md", "r_med.png", "restored.json"
FILES = (GEOMETRY, TABLE, FIGURE, RESTORED)
# Half-written ones of a process that was killed.
PARTIAL = tuple(f".{name}.*.partial" for name in FILES)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options of a command line.

    Raises:
      InputError: an option is unknown, missing or not a number.
    """
    statistics = ", ".join(name for name in STATISTICS_OF_LOOPS if name not in OF_UPDATES)
    parser = _Parser(
        prog="python -m hgeo.probe_checkpoint",
        description="R_med and other statistics of a saved checkpoint.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", required=True, help="an Orbax folder or a .safetensors file")
    add("--target", required=True, help="MODULE:FUNCTION, which returns (loss, template, batch)")
    add("--out", required=True, help="folder for the results")
    add("--subtree", default="", help="where in the checkpoint the params lie, such as params")
    add("--statistics", default="r_med", help=f"separated by commas: {statistics}")
    add("--layers", default=None, help="regular expression of the layers' paths")
    add("--num_coordinates", type=int, default=200, help="of each layer (200)")
    add("--seed", type=int, default=0, help="of the coordinates (0)")
    add("--mode", default="auto", help=f"auto, {', '.join(MODES)}")
    add("--chunk_size", default="auto", help="coordinates computed together (auto)")
    add("--remat", default="auto", help=f"recomputation of values: {', '.join(REMAT)}")
    add("--microbatch_size", type=int, default=None, help="examples computed together (all)")
    add("--mesh", default=None, help="axes and sizes, such as data:2,fsdp:4: params lie in shards")
    add("--shard", default=None, help="axes of --mesh over which each matrix is split")
    add("--split_batch", default=None, help="axes of --mesh over which the batch is split (all)")
    return parser.parse_args(arguments)


def probe_checkpoint(options: argparse.Namespace) -> bool:
    """Restores, measures, prints and writes; returns whether all values are finite.

    Raises:
      InputError: an option, the checkpoint or the target can't be used.
    """
    statistics = _statistics(options.statistics)
    out = _take(options)
    target = load_target(options.target)
    try:
        layers = find_layers(target.template, options.layers)
    except ValueError as error:
        raise InputError(f"--layers={options.layers}: {error}") from error
    saved = find_saved(options.checkpoint, options.subtree)
    _check_width(target.template)
    where, shardings = _where(options, target)
    params = restore(saved, target.template, options.subtree, shardings)
    chunk = options.chunk_size
    # Of an earlier start of the same probe.
    (out / GEOMETRY).unlink(missing_ok=True)
    remove_partial(out)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            monitor = Monitor(
                target.loss,
                layers,
                every=1,
                statistics=statistics,
                num=options.num_coordinates,
                key=jax.random.key(options.seed),
                batch=target.batch,
                workdir=out,
                name="checkpoint",
                mode=options.mode,
                chunk_size=int(chunk) if chunk.isdigit() else chunk,
                remat=options.remat,
                microbatch_size=options.microbatch_size,
                **where,
            )
            monitor(saved.step or 0, params)
        except (TypeError, ValueError) as error:
            raise InputError(" ".join(str(error).split())) from error
    rows, _ = read_rows(out / GEOMETRY, GeometryRow)
    notes = [saved.note, *(str(w.message) for w in caught if w.category is UserWarning)]
    _write(options, out, saved, params, rows, monitor.mode, list(filter(None, notes)))
    return math.isfinite(rows[0].loss) and not entries_not_finite(rows)


def _where(options: argparse.Namespace, target: Target) -> tuple[dict[str, Any], Any]:
    """The monitor's arguments for the mesh, and each array's sharding by path.

    Raises:
      InputError: options that do not fit each other, the mesh or the arrays.
    """
    if options.mesh is None:
        alone = [name for name in ("shard", "split_batch") if getattr(options, name) is not None]
        if alone:
            raise InputError(f"--{alone[0]} names axes of a mesh: give --mesh too")
        return {}, None
    mesh = parse_mesh(options.mesh)
    if options.shard is not None:
        shardings = shardings_along(options.shard, mesh, target.template)
    elif target.shardings is not None:
        shardings = shardings_by_function(target.shardings, mesh, target.template)
    else:
        raise InputError(
            f"--mesh={options.mesh} needs --shard, or a function shardings(mesh, params) beside "
            f"that of --target={options.target}"
        )
    axes = batch_axes(options.split_batch, mesh, target.batch)
    return {"mesh": mesh, "batch_spec": axes}, shardings


def _statistics(given: str) -> tuple[str, ...]:
    names = tuple(name for name in given.split(",") if name)
    of_updates = [name for name in names if name in OF_UPDATES]
    if of_updates:
        raise InputError(
            f"--statistics={given}: {of_updates[0]} needs an optimizer's updates, which a "
            "checkpoint of params lacks; use hgeo.Monitor in the training loop"
        )
    try:
        check_statistics(names)
    except ValueError as error:
        raise InputError(f"--statistics={given}: {error}") from error
    return names


def _take(options: argparse.Namespace) -> epath.Path:
    """The folder for the results; it may hold only results of the same checkpoint, or parts.

    Raises:
      InputError: the folder holds something else.
    """
    out = epath.Path(options.out)
    if not out.exists():
        return out
    if not out.is_dir():
        raise InputError(f"--out={out} is a file")
    names = sorted(path.name for path in out.iterdir())
    others = [n for n in names if not any(fnmatch.fnmatchcase(n, k) for k in (*FILES, *PARTIAL))]
    if others:
        raise InputError(
            f"--out={out} holds {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}: "
            "give a new or an empty folder"
        )
    if (out / RESTORED).exists():
        try:
            before = json.loads((out / RESTORED).read_text())["options"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{out / RESTORED} is damaged: remove {out}") from error
        differing = [k for k in before if k != "out" and before[k] != vars(options).get(k)]
        if differing:
            raise InputError(
                f"--out={out} holds a probe with --{differing[0]}={before[differing[0]]}: give "
                "another folder, or remove it"
            )
    return out


def _check_width(params: Any) -> None:
    for name, leaf in leaves_by_path(params).items():
        own = _dtype(leaf)
        if jax.dtypes.canonicalize_dtype(own) != own:
            raise InputError(
                f"{name} is {own}, which JAX would round: set the environment variable "
                "JAX_ENABLE_X64=1"
            )


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _write(
    options: argparse.Namespace,
    out: epath.Path,
    saved: Saved,
    params: Any,
    rows: list[GeometryRow],
    mode: str | None,
    notes: list[str],
) -> None:
    """Prints what was restored and measured, and writes all but `geometry.csv`."""
    arrays = {
        name: f"{_dtype(leaf)}{list(np.shape(leaf))}"
        for name, leaf in leaves_by_path(params).items()
    }
    number = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
    restored = {
        "format": saved.kind,
        "path": str(saved.path),
        "step": saved.step,
        "parameters": number,
        # Arrays in shards have no digest, because no host holds them whole.
        "arrays_sha256": None if options.mesh else digest(jax.tree.map(np.asarray, params)),
        "arrays": arrays,
        "loss": rows[0].loss,
        "mode": mode,
        "devices": [str(device) for device in jax.devices()],
        "notes": notes,
        "options": vars(options),
    }
    step = "" if saved.step is None else f", step {saved.step}"
    title = f"{shorten(str(options.checkpoint), 60)}{step}: loss {rows[0].loss:.6g}"
    lines = [
        f"restored {len(arrays)} arrays, {number:,} parameters, from {saved.path} ({saved.kind})",
        f"{options.num_coordinates} coordinates of each layer, seed {options.seed}"
        + (f"; {mode}" if mode else ""),
        *(f"note: {note}" for note in notes),
    ]
    print("\n".join(map(_wrapped, lines)))
    table = layer_table(rows, title)
    print(f"\n{table.text()}", end="")
    write_text(out / TABLE, "\n\n".join([table.markdown().rstrip(), *lines]) + "\n")
    if any(row.statistic == "r_med" for row in rows):
        write_bytes(out / FIGURE, png(r_med_of_layers(rows, title)))
    write_text(out / RESTORED, json.dumps(restored, indent=2) + "\n")
    there = ", ".join(name for name in FILES if (out / name).exists())
    print("\n" + _wrapped(f"{there} are in {out}"))


def _wrapped(line: str) -> str:
    return textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)


def main(arguments: list[str]) -> int:
    """Probes the checkpoint of a command line; returns the exit code."""
    logging.set_verbosity(logging.ERROR)  # Orbax's warnings are about saving
    try:
        finite = probe_checkpoint(parse(arguments))
    except InputError as error:
        return fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0 if finite else DIVERGED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
