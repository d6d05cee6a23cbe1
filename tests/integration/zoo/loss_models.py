"""JAX alone: losses by rank, by segment, and with derivatives inside them."""

import jax
import jax.numpy as jnp

import hgeo
from tests.integration.zoo.inputs import draws
from tests.probes.families import Case


def _case(key, loss_of):
    """A network of two layers, given to the loss as a function of its params."""
    draw = draws(key)
    params = {"w1": draw(3, 4), "w2": draw(4, 2)}
    batch = {"x": draw(6, 3), "y": draw(6, 2)}
    network = lambda params, x: jnp.tanh(x @ params["w1"]) @ params["w2"]
    loss = lambda params, batch: loss_of(network, params, batch)
    return Case(loss, params, batch, hgeo.find_layers(params))


def ranks(key):
    """The hardest examples by `top_k`, a sorted distance (Wasserstein) and a quantile."""

    def loss(network, params, batch):
        out = network(params, batch["x"])
        hardest, _ = jax.lax.top_k(jnp.sum((out - batch["y"]) ** 2, axis=-1), 3)
        transport = jnp.sort(out, axis=0) - jnp.sort(batch["y"], axis=0)
        order = jnp.argsort(out[:, 0])
        ranked = jnp.cumsum(jnp.sin(out[order, 1]))
        middle = jnp.quantile(out[:, 0] ** 2, 0.4)
        return jnp.mean(hardest) + jnp.mean(transport**2) + jnp.mean(ranked**2) + middle

    return _case(key, loss)


def segments(key):
    """Sums, maxima and a softmax by segment."""
    of = jnp.array([0, 0, 1, 1, 1, 2])

    def loss(network, params, batch):
        out = network(params, batch["x"])
        sums = jax.ops.segment_sum(out, of, 3)
        highest = jax.ops.segment_max(out, of, 3)
        shifted = jnp.exp(out - highest[of])
        shares = shifted / jax.ops.segment_sum(shifted, of, 3)[of]
        return jnp.mean(sums**2 + jnp.cos(highest)) + jnp.mean(shares * (out - batch["y"]) ** 2)

    return _case(key, loss)


def inner_gradient(key):
    """One gradient step inside the loss, as MAML takes it."""

    def loss(network, params, batch):
        inner = lambda params: jnp.mean((network(params, batch["x"][:3]) - batch["y"][:3]) ** 2)
        moved = jax.tree.map(lambda w, g: w - 0.3 * g, params, jax.grad(inner)(params))
        return jnp.mean((network(moved, batch["x"][3:]) - batch["y"][3:]) ** 2)

    return _case(key, loss)


def laplacian(key):
    """The residual of a differential equation (a physics-informed network)."""

    def loss(network, params, batch):
        value = lambda x: jnp.sum(network(params, x[None]))
        trace = jax.vmap(lambda x: jnp.trace(jax.hessian(value)(x)))(batch["x"])
        return jnp.mean((trace + jnp.sin(jax.vmap(value)(batch["x"]))) ** 2)

    return _case(key, loss)


def gradient_penalty(key):
    """A critic whose slope is held to one (as WGAN-GP)."""

    def loss(network, params, batch):
        slope = jax.vmap(jax.grad(lambda x: jnp.sum(network(params, x[None]))))(batch["x"])
        norm = jnp.sqrt(jnp.sum(slope**2, axis=-1))
        return jnp.mean(network(params, batch["x"])) + jnp.mean((norm - 1.0) ** 2)

    return _case(key, loss)


def special_functions(key):
    """Likelihoods with lgamma, digamma, betainc, gammainc, i0e, erfinv and logsumexp."""

    def loss(network, params, batch):
        out = network(params, batch["x"])
        rate = 1.0 + jax.nn.softplus(out)
        inside = 0.1 + 0.8 * jax.nn.sigmoid(out)
        return jnp.mean(
            jax.scipy.special.gammaln(rate)
            + jax.scipy.special.digamma(rate)
            + jax.scipy.special.i0e(out)
            + jax.scipy.special.erfinv(inside)
            + jax.scipy.special.ndtri(inside)
            + jax.scipy.special.log_ndtr(out)
            + jax.scipy.special.xlogy(batch["y"] ** 2, rate)
            + jax.scipy.special.logsumexp(out, axis=-1, keepdims=True)
            + jax.scipy.stats.t.logpdf(out, 3.0)
            + jnp.sinc(out)
            + jnp.logaddexp(out, batch["y"])
            + jax.scipy.special.gammainc(2.0, rate)
            + jax.scipy.special.betainc(2.0, 3.0, inside)
        )

    return _case(key, loss)


def control_flow(key):
    """`cond`, `switch`, a loop of known length, `map`, and a checked NaN-safe root."""

    def loss(network, params, batch):
        out = network(params, batch["x"])
        out = jax.lax.cond(jnp.sum(batch["y"]) > 0, jnp.sin, jnp.tanh, out)
        kinds = [jnp.square, jnp.cos, lambda x: x**3]
        pick = lambda k, row: jax.lax.switch(k, kinds, row)
        rows = jax.vmap(pick)(jnp.arange(6) % 3, out)
        metric = params["w2"].T @ params["w2"]
        step = lambda k, x: x + 0.1 * jnp.sin(x @ metric)
        looped = jax.lax.fori_loop(0, 3, step, rows)
        mapped = jax.lax.map(lambda row: jnp.linalg.norm(row + 1.0), looped)
        return jnp.mean(mapped**3) + jnp.mean((looped - batch["y"]) ** 2)

    return _case(key, loss)


def vector_quantised(key):
    """A straight-through estimator by `stop_gradient`, and a Gumbel softmax."""

    def loss(network, params, batch):
        out = network(params, batch["x"])
        codes = jnp.round(4.0 * out) / 4.0
        through = out + jax.lax.stop_gradient(codes - out)
        noise = jax.random.gumbel(jax.random.key(0), out.shape, out.dtype)
        soft = jax.nn.softmax((out + noise) / 0.7, axis=-1)
        return jnp.mean((through - batch["y"]) ** 2 * soft)

    return _case(key, loss)


MODELS = {
    model.__name__: model
    for model in (
        ranks,
        segments,
        inner_gradient,
        laplacian,
        gradient_penalty,
        special_functions,
        control_flow,
        vector_quantised,
    )
}
