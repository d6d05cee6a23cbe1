"""JAX alone: attention and state spaces, as today's language models have them."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

import hgeo
from tests.integration.zoo.inputs import cross_entropy, draws
from tests.probes.families import Case


def _case(key, layer, sizes, out=4):
    """Two residual layers between an input and a head."""
    draw = draws(key)
    params = [{name: draw(*size) for name, size in sizes.items()} for _ in range(2)]
    params.append({"head": draw(4, out)})
    batch = {"x": draw(2, 5, 4), "y": jax.random.randint(key, (2, 5), 0, out)}

    def loss(params, batch):
        x = batch["x"]
        for own in params[:-1]:
            x = x + layer(own, x)
        return cross_entropy(x @ params[-1]["head"], batch["y"])

    return Case(loss, params, batch, hgeo.find_layers(params))


def _rotary(x):
    angle = jnp.arange(x.shape[1])[None, :, None, None] * jnp.ones((), x.dtype)
    first, second = jnp.split(x, 2, axis=-1)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def grouped_queries(key):
    """`jax.nn.dot_product_attention` with four query heads on two key heads, rotated."""

    def layer(own, x):
        heads = lambda name, count: (x @ own[name]).reshape(*x.shape[:2], count, 2)
        query, key, value = heads("query", 4), heads("key", 2), heads("value", 2)
        mixed = jax.nn.dot_product_attention(_rotary(query), _rotary(key), value, is_causal=True)
        return mixed.reshape(*x.shape[:2], 8) @ own["out"]

    return _case(key, layer, {"query": (4, 8), "key": (4, 4), "value": (4, 4), "out": (8, 4)})


def masked_attention(key):
    """Attention whose mask is −inf, with a bias of each distance and padding."""

    def layer(own, x):
        scores = (x @ own["query"]) @ (x @ own["key"]).transpose(0, 2, 1)
        place = jnp.arange(x.shape[1])
        distance = jnp.abs(place[:, None] - place[None]) + 5 * (place[:, None] < place[None])
        scores = scores + own["bias"][:, 0][distance][None]
        scores = jnp.where((distance < 5)[None], scores, -jnp.inf)
        return jax.nn.softmax(scores, axis=-1) @ (x @ own["value"])

    sizes = {"query": (4, 3), "key": (4, 3), "value": (4, 4), "bias": (10, 1)}
    return _case(key, layer, sizes)


def linear_recurrence(key):
    """A diagonal state space by `associative_scan`, gated by the input (as in LRU, Hawk)."""

    def layer(own, x):
        decay = jax.nn.sigmoid(x @ own["decay"])
        joined = lambda left, right: (left[0] * right[0], right[0] * left[1] + right[1])
        pairs = decay, jnp.sqrt(1 - decay**2) * (x @ own["in"])
        _, state = jax.lax.associative_scan(joined, pairs, axis=1)
        return jax.nn.gelu(x @ own["gate"]) * (state @ own["out"])

    sizes = {"decay": (4, 3), "in": (4, 3), "out": (3, 4), "gate": (4, 4)}
    return _case(key, layer, sizes)


def selective_scan(key):
    """As Mamba: a causal convolution, then a scan whose step, input and output depend on x."""

    def layer(own, x):
        mixed = jax.lax.conv_general_dilated(
            x, own["conv"][:, None], (1,), [(2, 0)], (1,), (1,), ("NWC", "WIO", "NWC"), 4
        )
        mixed = jax.nn.silu(mixed)
        step = jax.nn.softplus(mixed @ own["step"])
        decay = jnp.exp(-step[..., None] * jnp.exp(own["log_a"])[None, None])
        given = (step * mixed)[..., None] * (mixed @ own["b"])[:, :, None]

        def along(state, inputs):
            decay, given, read = inputs
            state = decay * state + given
            return state, jnp.sum(state * read[:, None], axis=-1)

        first = lambda array: jnp.moveaxis(array, 1, 0)
        start = jnp.zeros_like(given[:, 0])
        inputs = first(decay), first(given), first(mixed @ own["c"])
        return jnp.moveaxis(jax.lax.scan(along, start, inputs)[1], 0, 1) @ own["out"]

    sizes = {"conv": (3, 4), "step": (4, 4), "log_a": (4, 2), "b": (4, 2), "c": (4, 2)}
    return _case(key, layer, {**sizes, "out": (4, 4)})


def experts(key):
    """The two best of three experts, sent by one-hot products, with a balance loss."""

    def layer(own, x):
        gates = jax.nn.softmax(x @ own["router"], axis=-1)
        best, chosen = jax.lax.top_k(gates, 2)
        sent = jax.nn.one_hot(chosen, 3, dtype=x.dtype)
        weights = jnp.sum(sent * (best / jnp.sum(best, axis=-1, keepdims=True))[..., None], axis=2)
        hidden = jax.nn.silu(jnp.einsum("btd,edh->bteh", x, own["up"].reshape(3, 4, 3)))
        mixed = jnp.einsum("bteh,ehd->bted", hidden, own["down"].reshape(3, 3, 4))
        balance = jnp.sum(jnp.mean(sent, axis=(0, 1, 2)) * jnp.mean(gates, axis=(0, 1)))
        return jnp.einsum("bted,bte->btd", mixed, weights) * (1.0 + balance)

    return _case(key, layer, {"router": (4, 3), "up": (12, 3), "down": (9, 4)})


def lora(key):
    """Frozen weights, held by the loss, with adapters of rank 2."""
    frozen = draws(jax.random.fold_in(key, 1))(4, 4)
    layer = lambda own, x: jnp.tanh(x @ (frozen + own["a"] @ own["b"] / 2))
    return _case(key, layer, {"a": (4, 2), "b": (2, 4)})


def scan_remat(key):
    """A scan over two stacked layers, recomputed on the way back but for named products."""
    draw = draws(key)
    params = {"blocks": {"up": draw(2, 4, 6), "down": draw(2, 6, 4)}, "head": draw(4, 5)}
    batch = {"x": draw(3, 4), "y": jnp.arange(3)}
    policy = jax.checkpoint_policies.save_only_these_names("hidden")

    def block(x, own):
        hidden = checkpoint_name(x @ own["up"], "hidden")
        return x + jax.nn.gelu(hidden) @ own["down"], None

    def loss(params, batch):
        x, _ = jax.lax.scan(jax.checkpoint(block, policy=policy), batch["x"], params["blocks"])
        return cross_entropy(x @ params["head"], batch["y"])

    return Case(loss, params, batch, hgeo.find_layers(params, stacked="blocks"))


def fourier(key):
    """Layers that filter by a real FFT (as AFNO, FNO) and mix by a complex one (as FNet)."""

    def layer(own, x):
        modes = jnp.fft.rfft(x, axis=1)
        mixed = modes @ jax.lax.complex(own["real"], own["imag"])
        filtered = jnp.fft.irfft(mixed, n=x.shape[1], axis=1)
        mixed = jnp.real(jnp.fft.fft2(jnp.tanh(x @ own["dense"])))
        return jax.nn.gelu(filtered) + 0.1 * mixed

    return _case(key, layer, {"real": (4, 4), "imag": (4, 4), "dense": (4, 4)})


MODELS = {
    model.__name__: model
    for model in (
        grouped_queries,
        masked_attention,
        linear_recurrence,
        selective_scan,
        experts,
        lora,
        scan_remat,
        fourier,
    )
}
