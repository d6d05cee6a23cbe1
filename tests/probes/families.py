"""Small models of every family that the probes are tested on, in any floating dtype."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

import hgeo


class Case(NamedTuple):
    loss: Callable[[Any, Any], Any]
    params: Any
    batch: Any
    layers: Any


def _normal(key, count):
    keys = iter(jax.random.split(key, count))
    return lambda *shape: (
        jax.random.normal(next(keys), shape, jnp.result_type(float)) / (max(shape[0], 1) ** 0.5)
    )


def _cross_entropy(logits, labels):
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], axis=-1))


@contextlib.contextmanager
def _flax():
    """Allows type promotion, which Flax's layers rely on and the tests forbid."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _apply(module, *args, **kwargs):
    with _flax():
        return module.apply(*args, **kwargs)


def _module(module, key, *inputs):
    """Initialises in float32, as Flax does, and gives the asked dtype."""
    narrow = lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x
    with _flax():
        variables = jax.jit(module.init)(key, *map(narrow, inputs))
    return jax.tree.map(lambda x: x.astype(jnp.result_type(float)), variables)


def _jiggled(tree, key):
    """Moves zeros and ones (biases, scales) off their special values."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    moved = [
        x + 0.1 * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(treedef, moved)


def linear_net(key):
    draw = _normal(key, 4)
    params = {"w1": draw(4, 5), "w2": draw(5, 4), "w3": draw(4, 3)}
    batch = {"x": draw(6, 4), "y": jnp.ones((6, 3))}

    def loss(params, batch):
        out = batch["x"] @ params["w1"] @ params["w2"] @ params["w3"]
        return 0.5 * jnp.mean(jnp.sum((out - batch["y"]) ** 2, axis=-1))

    return Case(loss, params, batch, hgeo.find_layers(params))


def gelu_mlp(key):
    draw = _normal(key, 5)
    params = {"w1": draw(4, 7), "b1": draw(7), "w2": draw(7, 6), "w3": draw(6, 3)}
    batch = {"x": draw(6, 4), "y": jnp.arange(6) % 3}

    def loss(params, batch):
        hidden = jax.nn.gelu(batch["x"] @ params["w1"] + params["b1"][None], approximate=True)
        hidden = jax.nn.gelu(hidden @ params["w2"], approximate=False)
        return _cross_entropy(jax.nn.silu(hidden) @ params["w3"], batch["y"])

    return Case(loss, params, batch, hgeo.find_layers(params))


def tied_autoencoder(key):
    draw = _normal(key, 3)
    params = {"tied": draw(6, 4), "middle": draw(4, 4)}
    batch = draw(5, 6)

    def loss(params, batch):
        code = jnp.tanh(jnp.tanh(batch @ params["tied"]) @ params["middle"])
        # The root of a mean mixes the examples.
        return jnp.sqrt(jnp.mean((code @ params["tied"].T - batch) ** 2))

    return Case(loss, params, batch, hgeo.find_layers(params))


class _EncoderBlock(nn.Module):
    """Post-LN, ReLU, a fused in-projection, as in the language model."""

    heads: int = 2

    @nn.compact
    def __call__(self, x_BxLxD):
        B, L, D = x_BxLxD.shape
        kinds = jnp.split(nn.Dense(3 * D, name="in_proj")(x_BxLxD), 3, axis=-1)
        q, k, v = (part.reshape(B, L, self.heads, D // self.heads) for part in kinds)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / (D // self.heads) ** 0.5
        causal = jnp.tril(jnp.ones((L, L), bool))[None, None]
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(B, L, D)
        x = nn.LayerNorm()(x_BxLxD + nn.Dense(D, name="out_proj")(mixed))
        hidden = nn.relu(nn.Dense(8, name="linear1")(x))
        return nn.LayerNorm()(x + nn.Dense(D, name="linear2")(hidden))


class _DecoderBlock(nn.Module):
    """Causal self attention, then cross attention, of Flax's own modules."""

    @nn.compact
    def __call__(self, x, memory):
        mask = nn.make_causal_mask(x[..., 0])
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(2, name="self")(x, mask=mask))
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(2, name="cross")(x, memory))
        return nn.LayerNorm()(x + nn.Dense(4)(nn.relu(nn.Dense(6)(x))))


class _BertBlock(nn.Module):
    """Separate Q, K, V, a padding mask, exact GELU, and a tanh pooler."""

    @nn.compact
    def __call__(self, ids_BxL, mask_BxL):
        x = nn.LayerNorm()(nn.Embed(7, 4, name="embed")(ids_BxL))
        mask = nn.make_attention_mask(mask_BxL > 0, mask_BxL > 0)
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(2, name="attention")(x, mask=mask))
        hidden = nn.gelu(nn.Dense(6, name="intermediate")(x), approximate=False)
        x = nn.LayerNorm()(x + nn.Dense(4, name="output")(hidden))
        return nn.Dense(2, name="classifier")(jnp.tanh(nn.Dense(4, name="pooler")(x[:, 0])))


def encoder_block(key):
    draw, module = _normal(key, 2), _EncoderBlock()
    batch = {"x": draw(3, 4, 4), "y": jnp.arange(12).reshape(3, 4) % 4}
    params = _jiggled(_module(module, key, batch["x"]), key)

    def loss(params, batch):
        return _cross_entropy(_apply(module, params, batch["x"]), batch["y"])

    layers = hgeo.find_layers(params, "(in_proj|linear2)/kernel")
    return Case(loss, params, batch, layers)


def decoder_block(key):
    draw, module = _normal(key, 3), _DecoderBlock()
    batch = {"x": draw(2, 3, 4), "memory": draw(2, 4, 4), "y": draw(2, 3, 4)}
    params = _jiggled(_module(module, key, batch["x"], batch["memory"]), key)

    def loss(params, batch):
        return jnp.mean((_apply(module, params, batch["x"], batch["memory"]) - batch["y"]) ** 3)

    layers = hgeo.find_layers(params, "self/(query|out)/kernel|cross/key/kernel|Dense_./kernel")
    return Case(loss, params, batch, layers)


def bert_block(key):
    module = _BertBlock()
    batch = {
        "ids": jax.random.randint(key, (3, 4), 0, 7),
        "mask": jnp.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]),
        "y": jnp.array([0, 1, 1]),
    }
    params = _jiggled(_module(module, key, batch["ids"], batch["mask"]), key)
    layers = hgeo.find_layers(params, "(value|intermediate|pooler)/kernel")
    qkv = [f"params/attention/{name}/kernel" for name in ("query", "key", "value")]
    layers |= hgeo.find_layers(params, {"in_proj": qkv, "embed": "params/embed/embedding"})

    def loss(params, batch):
        return _cross_entropy(_apply(module, params, batch["ids"], batch["mask"]), batch["y"])

    return Case(loss, params, batch, layers)


class _ConvNet(nn.Module):
    norm: bool

    @nn.compact
    def __call__(self, x):
        for width, stride in ((3, 1), (4, 2)):
            x = nn.Conv(width, (3, 3), (stride, stride))(x)
            if self.norm:
                x = nn.BatchNorm(use_running_average=False)(x)
            x = nn.gelu(x)
        x = nn.max_pool(x, (2, 2), (1, 1)) + nn.avg_pool(x, (2, 2), (1, 1))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def _convolution(key, norm):
    draw, module = _normal(key, 2), _ConvNet(norm)
    batch = {"x": draw(3, 5, 5, 2), "y": jnp.arange(3)}
    variables = _module(module, key, batch["x"])
    params = _jiggled(variables["params"], key)
    rest = {name: value for name, value in variables.items() if name != "params"}

    def loss(params, batch):
        out, _ = _apply(module, {"params": params, **rest}, batch["x"], mutable=["batch_stats"])
        return _cross_entropy(out, batch["y"])

    layers = hgeo.find_layers(params, "(Conv_0|Dense_0)/kernel" if norm else None)
    return Case(loss, params, batch, layers)


def attention(key):
    """A wide layer and a narrow one before positions meet, and one behind, of next to no size."""
    draw = _normal(key, 5)
    params = {"wide": draw(3, 5), "narrow": draw(5, 2), "behind": 2.0 * draw(2, 3)}
    batch = {"x": 2.0 * draw(2, 3, 3), "y": draw(2, 3, 3)}

    def loss(params, batch):
        x = jnp.tanh(jnp.tanh(batch["x"] @ params["wide"]) @ params["narrow"])
        weights = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", x, x))
        return jnp.mean((jnp.tanh((weights @ x) @ params["behind"]) - batch["y"]) ** 2)

    return Case(loss, params, batch, hgeo.find_layers(params, ["wide", "narrow", "behind"]))


def convolution(key):
    return _convolution(key, norm=False)


def batch_norm(key):
    return _convolution(key, norm=True)


def recurrence(key):
    draw = _normal(key, 5)
    params = {"in": draw(3, 4), "recurrent": draw(4, 4), "out": draw(4, 2)}
    batch = {"x": draw(5, 3, 3), "y": draw(3, 2)}

    def loss(params, batch):
        def step(state, x):
            state = jnp.tanh(x @ params["in"] + state @ params["recurrent"])
            return state, jnp.sum(state**2)

        start = jnp.zeros((3, 4), batch["x"].dtype)
        state, energy = jax.lax.scan(step, start, batch["x"])
        return jnp.mean((state @ params["out"] - batch["y"]) ** 2) + 0.1 * jnp.mean(energy)

    return Case(loss, params, batch, hgeo.find_layers(params))


def scanned_stack(key):
    draw = _normal(key, 4)
    params = {"blocks": {"kernel": 2.0 * draw(3, 4, 4)}, "out": draw(4, 2)}
    batch = {"x": draw(5, 4), "y": jnp.arange(5) % 2}

    def loss(params, batch):
        def block(x, kernel):
            return x + jnp.tanh(x @ kernel), None

        x, _ = jax.lax.scan(jax.checkpoint(block), batch["x"], params["blocks"]["kernel"])
        return _cross_entropy(x @ params["out"], batch["y"])

    return Case(loss, params, batch, hgeo.find_layers(params, stacked="blocks"))


def weight_norm(key):
    draw = _normal(key, 5)
    params = {"v": draw(4, 5), "g": draw(5), "w": draw(5, 3)}
    batch = {"x": draw(6, 4), "y": jnp.arange(6) % 3}

    def loss(params, batch):
        norms = jnp.sqrt(jnp.sum(params["v"] ** 2, axis=0))
        kernel = params["v"] * (params["g"] / norms)[None]
        logits = jax.nn.softplus(batch["x"] @ kernel) @ params["w"]
        penalty = jnp.sum(params["w"] ** 4) + jnp.linalg.norm(params["v"] @ params["w"])
        logsumexp = jax.nn.logsumexp(logits, axis=-1)
        picked = jnp.sum(logits * jax.nn.one_hot(batch["y"], 3, dtype=logits.dtype), axis=-1)
        return hgeo.Weighted(jnp.sum(logsumexp - picked) + 0.1 * penalty, 6.0)

    return Case(loss, params, batch, hgeo.find_layers(params))


FAMILIES = {
    family.__name__: family
    for family in (
        linear_net,
        gelu_mlp,
        tied_autoencoder,
        attention,
        encoder_block,
        decoder_block,
        bert_block,
        convolution,
        batch_norm,
        recurrence,
        scanned_stack,
        weight_norm,
    )
}
