"""A decoder as a plain pytree, and the ways in which its params are laid over a mesh."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import hgeo

P = PartitionSpec
WIDTH, WIDE, VOCABULARY, LENGTH, EXAMPLES, HEADS = 8, 24, 40, 3, 8, 2
AXES = ("data", "fsdp", "tensor")
SHAPES = {"fsdp": (2, 4, 1), "tensor": (2, 1, 4), "both": (2, 2, 2)}

# How each matrix lies: its rows, its columns.
_COLUMNS = {"fsdp": P("fsdp", None), "tensor": P(None, "tensor"), "both": P("fsdp", "tensor")}
_ROWS = {"fsdp": P("fsdp", None), "tensor": P("tensor", None), "both": P("tensor", "fsdp")}
BATCH = P(("data", "fsdp"))


def init_params(dtype, blocks=1):
    keys = iter(jax.random.split(jax.random.key(0), 99))
    draw = lambda *shape: jax.random.normal(next(keys), shape, dtype) * shape[0] ** -0.5
    block = lambda: {
        **{name: draw(WIDTH, WIDTH) for name in ("query", "key", "value", "out")},
        "up": draw(WIDTH, WIDE),
        "down": draw(WIDE, WIDTH),
    }
    return {
        "embedding": draw(VOCABULARY, WIDTH),
        "blocks": [block() for _ in range(blocks)],
        "head": draw(WIDTH, VOCABULARY),
    }


def specs_of(params, kind):
    of = lambda path, _: (
        P() if path[-1].key == "embedding"
        else _ROWS[kind] if path[-1].key in ("out", "down")
        else _COLUMNS[kind]
    )  # fmt: skip
    return jax.tree_util.tree_map_with_path(of, params)


def make_batch(examples=EXAMPLES):
    shape = (examples, LENGTH)
    draw = lambda seed: jax.random.randint(jax.random.key(seed), shape, 0, VOCABULARY)
    return {"tokens": draw(1), "labels": draw(2)}


def mesh_of(kind, axis_type=AxisType.Auto):
    return jax.make_mesh(SHAPES[kind], AXES, axis_types=(axis_type,) * 3)


def placed(params, batch, mesh, kind):
    put = lambda tree, specs: jax.tree.map(
        lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)),
        tree,
        specs,
    )
    return put(params, specs_of(params, kind)), put(batch, jax.tree.map(lambda _: BATCH, batch))


def coordinates_of(params, num=4):
    return hgeo.sample_coordinates(hgeo.find_layers(params), num, jax.random.key(3))


def loss(params, batch):
    """The mean cross-entropy; where the mesh has explicit axes, with the types that they need."""
    mesh = jax.typeof(params["head"]).sharding.mesh
    if mesh.explicit_axes:
        gather = lambda leaf: jax.sharding.reshard(leaf, NamedSharding(mesh, P()))
        by_example = NamedSharding(mesh, BATCH)
        x = params["embedding"].at[batch["tokens"]].get(out_sharding=by_example)
    else:
        gather = lambda leaf: leaf
        x = params["embedding"][batch["tokens"]]
    return _mean_loss(params, x, batch["labels"], gather)


def _mean_loss(params, x, labels, gather):
    length = x.shape[1]
    seen = jnp.tril(jnp.ones((length, length), bool))
    for block in params["blocks"]:
        heads = [
            (_norm(x) @ gather(block[name])).reshape(*x.shape[:2], HEADS, WIDTH // HEADS)
            for name in ("query", "key", "value")
        ]
        scores = jnp.einsum("bthe,bshe->bhts", *heads[:2]) * (WIDTH // HEADS) ** -0.5
        weights = jax.nn.softmax(jnp.where(seen[None, None], scores, -1e9))
        mixed = jnp.einsum("bhts,bshe->bthe", weights, heads[2]).reshape(x.shape)
        x = x + mixed @ gather(block["out"])
        x = x + jax.nn.gelu(_norm(x) @ gather(block["up"])) @ gather(block["down"])
    logits = jax.nn.log_softmax(_norm(x) @ gather(params["head"]))
    return -jnp.mean(jnp.sum(logits * jax.nn.one_hot(labels, VOCABULARY, dtype=x.dtype), -1))


def _norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)
