"""JAX alone: decompositions, solves and matrix functions in the loss."""

import jax
import jax.numpy as jnp
from jax.experimental import sparse

import hgeo
from tests.integration.zoo.inputs import draws
from tests.probes.families import Case


def _case(key, of_matrix):
    """Features tanh(x·w), whose matrix enters a function of linear algebra with the targets."""
    draw = draws(key)
    params = {"w": draw(3, 4), "kernel": draw(4, 4)}
    batch = {"x": draw(6, 3), "y": draw(6, 2)}

    def loss(params, batch):
        return of_matrix(jnp.tanh(batch["x"] @ params["w"]), params["kernel"], batch["y"])

    return Case(loss, params, batch, hgeo.find_layers(params))


def _positive(features):
    return features.T @ features + 0.5 * jnp.eye(4, dtype=features.dtype)


def solve(key):
    """Ridge regression on features, by LU."""

    def of_matrix(features, kernel, y):
        head = jnp.linalg.solve(_positive(features @ kernel), features.T @ y)
        return jnp.mean((features @ head - y) ** 2)

    return _case(key, of_matrix)


def cholesky(key):
    """The marginal likelihood of a Gaussian process, by Cholesky factors and their solves."""

    def of_matrix(features, kernel, y):
        covariance = (features @ kernel) @ (features @ kernel).T + jnp.eye(6, dtype=y.dtype)
        factor = jax.scipy.linalg.cho_factor(covariance, lower=True)
        fit = jnp.sum(y * jax.scipy.linalg.cho_solve(factor, y))
        return 0.5 * fit + 2.0 * jnp.sum(jnp.log(jnp.diag(factor[0])))

    return _case(key, of_matrix)


def slogdet(key):
    """A normalising flow's log determinant, and an inverse."""

    def of_matrix(features, kernel, y):
        mixed = features @ (jnp.eye(4, dtype=y.dtype) + 0.3 * kernel)
        _, logarithm = jnp.linalg.slogdet(_positive(mixed))
        return logarithm + jnp.sum(jnp.linalg.inv(_positive(mixed)) ** 2)

    return _case(key, of_matrix)


def eigh(key):
    """Eigenvalues and eigenvectors of a covariance."""

    def of_matrix(features, kernel, y):
        values, vectors = jnp.linalg.eigh(_positive(features @ kernel))
        projected = features @ vectors[:, -2:] ** 2
        return jnp.sum(jnp.log(values)) + jnp.mean((projected - y) ** 2)

    return _case(key, of_matrix)


def svd(key):
    """A nuclear norm and a projection on singular vectors."""

    def of_matrix(features, kernel, y):
        left, values, right = jnp.linalg.svd(features @ kernel, full_matrices=False)
        return jnp.sum(values) + jnp.sum((left[:, :2] @ right[:2, :2] - y) ** 2)

    return _case(key, of_matrix)


def qr(key):
    """Weights made orthogonal, and a residual of least squares."""

    def of_matrix(features, kernel, y):
        q, _ = jnp.linalg.qr(features @ kernel)
        _, r = jnp.linalg.qr(kernel + 2.0 * jnp.eye(4, dtype=y.dtype))
        return jnp.mean((y - q @ (q.T @ y)) ** 2) + jnp.sum(jnp.log(jnp.abs(jnp.diag(r))))

    return _case(key, of_matrix)


def exponential(key):
    """A rotation as the exponential of a skew-symmetric matrix."""

    def of_matrix(features, kernel, y):
        rotation = jax.scipy.linalg.expm(kernel - kernel.T)
        return jnp.mean((jnp.tanh(features @ rotation)[:, :2] - y) ** 2)

    return _case(key, of_matrix)


def conjugate_gradients(key):
    """An iterative solve, differentiated implicitly."""

    def of_matrix(features, kernel, y):
        matrix = _positive(features @ kernel)
        head, _ = jax.scipy.sparse.linalg.cg(
            lambda v: matrix @ v, features.T @ y, tol=1e-14, atol=1e-14, maxiter=40
        )
        return jnp.mean((features @ head - y) ** 2)

    return _case(key, of_matrix)


def sparse_product(key):
    """A sparse adjacency matrix (BCOO) times features."""

    def of_matrix(features, kernel, y):
        rows, columns = jnp.array([0, 1, 1, 3, 5, 2]), jnp.array([1, 0, 4, 2, 5, 3])
        weights = jnp.sum(features[rows] * features[columns], axis=-1)
        adjacency = sparse.BCOO((weights, jnp.stack([rows, columns], 1)), shape=(6, 6))
        return jnp.mean((jnp.tanh(adjacency @ (features @ kernel))[:, :2] - y) ** 2)

    return _case(key, of_matrix)


MODELS = {
    model.__name__: model
    for model in (
        solve,
        cholesky,
        slogdet,
        eigh,
        svd,
        qr,
        exponential,
        conjugate_gradients,
        sparse_product,
    )
}
