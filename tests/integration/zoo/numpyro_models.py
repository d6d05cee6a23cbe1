"""NumPyro: the potential energy of a model, which samplers and MAP estimates differentiate."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer.util import log_density

import hgeo
from tests.integration.zoo.inputs import draws
from tests.probes.families import Case


def log_joint(key):
    """A Bayesian network of two layers, with heavy-tailed weights and an overdispersed count."""
    draw = draws(key)
    params = {"w1": draw(3, 4), "w2": draw(4, 2), "scale": jnp.exp(draw(2))}
    batch = {"x": draw(5, 3), "y": jax.random.poisson(key, 2.0, (5, 2))}

    def model(x, y):
        w1 = numpyro.sample("w1", dist.StudentT(4.0, 0.0, 1.0).expand([3, 4]).to_event(2))
        w2 = numpyro.sample("w2", dist.Normal(0.0, 1.0).expand([4, 2]).to_event(2))
        scale = numpyro.sample("scale", dist.Gamma(2.0, 1.0).expand([2]).to_event(1))
        rate = jax.nn.softplus(jnp.tanh(x @ w1) @ w2)
        with numpyro.plate("examples", len(x)):
            numpyro.sample("y", dist.NegativeBinomial2(rate, scale).to_event(1), obs=y)

    def loss(params, batch):
        return -log_density(model, (batch["x"], batch["y"]), {}, params)[0] / len(batch["x"])

    return Case(loss, params, batch, hgeo.find_layers(params, lambda path, leaf: True))


def log_normal_mixture(key):
    """A mixture with its components summed out, and a covariance by its Cholesky factor."""
    draw = draws(key)
    params = {"means": draw(3, 2), "factor": draw(2, 2), "logits": draw(1, 3)}
    batch = 2.0 * draw(6, 2)

    def model(x, means, factor, logits):
        lower = jnp.tril(factor, -1) + jnp.diag(jnp.exp(jnp.diag(factor)))
        parts = dist.MultivariateNormal(means, scale_tril=lower)
        mixture = dist.MixtureSameFamily(dist.Categorical(logits=logits[0]), parts)
        with numpyro.plate("examples", len(x)):
            numpyro.sample("x", mixture, obs=x)

    def loss(params, batch):
        return -log_density(model, (batch,), params, {})[0] / len(batch)

    return Case(loss, params, batch, hgeo.find_layers(params))


MODELS = {model.__name__: model for model in (log_joint, log_normal_mixture)}
