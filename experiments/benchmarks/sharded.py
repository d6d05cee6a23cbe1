"""The cost on each device of a probe of sharded params, read from the compiled programs.

A decoder LM as a plain pytree is laid over the devices as FSDP, tensor parallelism and both lay it
(`hgeo.make_probe`, virtual devices). Per device and times their number, against one device:
operations and temporaries of the probe, and temporaries of a gradient of the same loss, which lies
in the same shards; then bytes of each kind of collective of the probe.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import hgeo

P = PartitionSpec
AXES = ("data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))
HEADS, VOCABULARY, LENGTH, EXAMPLES, COORDINATES = 4, 512, 32, 16, 8
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"f32": 4, "f64": 8, "s32": 4, "u32": 4, "pred": 1, "bf16": 2, "f16": 2, "s64": 8, "u8": 1}


@dataclasses.dataclass(frozen=True)
class Size:
    """A decoder's width and depth."""

    name: str
    width: int = 64
    blocks: int = 4


SIZES = (Size("base"), Size("width x 2", width=128), Size("depth x 2", blocks=8))


def layouts(devices: int) -> dict[str, tuple[int, int, int]]:
    """By name the mesh's shape along `AXES`, for a number of devices."""
    if devices == 1:
        return {"one": (1, 1, 1)}
    found = {"fsdp": (1, devices, 1), "tensor": (max(1, devices // 4), 1, min(devices, 4))}
    return found | ({"both": (devices // 4, 2, 2)} if devices >= 4 else {})


def sharded_lines(devices: tuple[int, ...], sizes: tuple[Size, ...] = SIZES) -> list[str]:
    """The table, a line for each size, layout and number of devices; each is compiled."""
    lines = [
        "size       layout devices  operations  temporaries  of a gradient  largest gather  "
        + "  ".join(f"{kind} MB" for kind in KINDS),
        "                            (n x one)    (n x one)      (n x one)   (of a matrix)",
    ]
    for size in sizes:
        one = None
        for number in devices if size == sizes[0] else (1, max(devices)):
            for layout, shape in layouts(number).items():
                mesh = mesh_of(shape)
                compiled = probe_on(size, layout, mesh)
                operations = compiled.cost_analysis()["flops"] * number
                temporaries, of_gradient = (
                    program.memory_analysis().temp_size_in_bytes * number
                    for program in (compiled, gradient_on(size, layout, mesh))
                )
                one = one or (operations, temporaries, of_gradient)
                exchanged, largest = bytes_by_kind(compiled.as_text())
                matrix = max(size.width * VOCABULARY, 4 * size.width**2) * 4
                lines.append(
                    f"{size.name:10} {layout:6} {number:7} {operations / one[0]:11.2f} "
                    f"{temporaries / one[1]:12.2f} {of_gradient / one[2]:14.2f} "
                    f"{largest / matrix:15.2f}  "
                    + "  ".join(f"{exchanged[k] / 1e6:{len(k) + 3}.2f}" for k in KINDS)
                )
    return lines


def mesh_of(shape: tuple[int, int, int]) -> Mesh:
    """A mesh of some shape over the first devices."""
    devices = jax.devices()[: math.prod(shape)]
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def probe_on(
    size: Size,
    layout: str,
    mesh: Mesh,
    examples: int = EXAMPLES,
    choose: Callable[[Any], Any] = lambda layers: layers,
) -> Any:
    """The compiled probe of a decoder's layers that `choose` leaves."""
    params, batch = _arguments(size, layout, mesh, examples)
    layers = choose(hgeo.find_layers(params))
    coordinates = hgeo.sample_coordinates(layers, COORDINATES, jax.random.key(0))
    return hgeo.make_probe(loss, coordinates, mesh=mesh).lower(params, batch).compile()


def gradient_on(size: Size, layout: str, mesh: Mesh, examples: int = EXAMPLES) -> Any:
    """The compiled gradient of the same, in the shards of the params."""
    params, batch = _arguments(size, layout, mesh, examples)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, params)
    return jax.jit(jax.grad(loss), out_shardings=shardings).lower(params, batch).compile()


def _arguments(size: Size, layout: str, mesh: Mesh, examples: int) -> tuple[Any, Any]:
    """Params and batch, without values, that lie on a mesh."""
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec_of(path[-1].key, layout))
        ),
        jax.eval_shape(lambda: init_params(size)),
    )
    batch = jax.ShapeDtypeStruct(
        (examples, LENGTH + 1), jnp.int32, sharding=NamedSharding(mesh, BATCH)
    )
    return params, batch


def spec_of(name: str, layout: str) -> PartitionSpec:
    """How a matrix of the decoder lies: rows, columns."""
    if layout == "one" or (layout == "tensor" and name == "embedding"):
        return P()
    if layout == "fsdp" or name == "embedding":
        return P("fsdp", None)
    rows, columns = ("fsdp" if layout == "both" else None), "tensor"
    return P(columns, rows) if name in ("out", "down") else P(rows, columns)


def init_params(size: Size) -> Any:
    """The decoder's params."""
    keys = iter(jax.random.split(jax.random.key(0), 2 + 6 * size.blocks))
    draw = lambda *shape: jax.random.normal(next(keys), shape) * shape[0] ** -0.5
    width, wide = size.width, 4 * size.width
    block = lambda: {
        **{name: draw(width, width) for name in ("query", "key", "value", "out")},
        "up": draw(width, wide),
        "down": draw(wide, width),
    }
    return {
        "embedding": draw(VOCABULARY, width),
        "blocks": [block() for _ in range(size.blocks)],
        "head": draw(width, VOCABULARY),
    }


def loss(params: Any, tokens: jax.Array) -> jax.Array:
    """The mean cross-entropy of the next token."""
    inputs, labels = tokens[:, :-1], tokens[:, 1:]
    x = params["embedding"][inputs]
    seen = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
    for block in params["blocks"]:
        split = lambda name, x=x, block=block: (_norm(x) @ block[name]).reshape(
            *x.shape[:2], HEADS, -1
        )
        query, key, value = split("query"), split("key"), split("value")
        scores = jnp.einsum("bthe,bshe->bhts", query, key) * query.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(seen, scores, -1e9))
        x = x + jnp.einsum("bhts,bshe->bthe", weights, value).reshape(x.shape) @ block["out"]
        x = x + jax.nn.gelu(_norm(x) @ block["up"]) @ block["down"]
    logits = jax.nn.log_softmax(_norm(x) @ params["head"])
    return -jnp.mean(jnp.take_along_axis(logits, labels[..., None], -1))


def _norm(x: jax.Array) -> jax.Array:
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def bytes_by_kind(program: str) -> tuple[collections.Counter[str], int]:
    """Bytes of the results of each kind of collective in a program's text, and the largest gather.

    What stands in a loop counts once.
    """
    found: collections.Counter[str] = collections.Counter()
    largest = 0
    for line in program.splitlines():
        match = re.search(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(", line)
        if match is None:
            continue
        for kind, shape in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", match.group(1)):
            size = BYTES[kind] * math.prod(int(n) for n in shape.split(",") if n)
            found[match.group(2)] += size
            largest = max(largest, size) if match.group(2) == "all-gather" else largest
    return found, largest
