"""Lineax and Optimistix: a linear solve or a root in the loss, differentiated implicitly."""

import jax
import jax.numpy as jnp
import lineax as lx
import optimistix as optx

import hgeo
from tests.integration.zoo.inputs import draws
from tests.probes.families import Case


def _matrix(weight):
    return jnp.eye(len(weight), dtype=weight.dtype) + 0.3 * jnp.tanh(weight)


def _linear(key, solve):
    draw = draws(key)
    params = {"w": draw(3, 4), "matrix": draw(4, 4)}
    batch = {"x": draw(5, 3), "y": draw(5, 4)}

    def loss(params, batch):
        right = jnp.tanh(batch["x"] @ params["w"])
        solved = jax.vmap(lambda b: solve(_matrix(params["matrix"]), b))(right)
        return jnp.mean((solved - batch["y"]) ** 2)

    return Case(loss, params, batch, hgeo.find_layers(params))


def lineax_lu(key):
    """A direct solve."""
    solve = lambda matrix, b: lx.linear_solve(lx.MatrixLinearOperator(matrix), b, lx.LU()).value
    return _linear(key, solve)


def lineax_cg(key):
    """Conjugate gradients for a positive definite operator."""

    def solve(matrix, b):
        operator = lx.MatrixLinearOperator(matrix @ matrix.T, lx.positive_semidefinite_tag)
        return lx.linear_solve(operator, b, lx.CG(rtol=1e-12, atol=1e-12)).value

    return _linear(key, solve)


def lineax_least_squares(key):
    """Least squares by QR, of a tall matrix."""

    def solve(matrix, b):
        tall = jnp.concatenate([matrix, matrix**2])
        right = jnp.concatenate([b, jnp.sin(b)])
        return lx.linear_solve(lx.MatrixLinearOperator(tall), right, lx.QR()).value

    return _linear(key, solve)


def _implicit(key, solve):
    draw = draws(key)
    params = {"in": draw(3, 4), "recurrent": draw(4, 4), "out": draw(4, 2)}
    batch = {"x": draw(4, 3), "y": draw(4, 2)}

    def step(state, arguments):
        x, params = arguments
        return jnp.tanh(x @ params["in"] + 0.4 * state @ params["recurrent"])

    def loss(params, batch):
        start = jnp.zeros((len(batch["x"]), 4), batch["x"].dtype)
        state = solve(step, start, (batch["x"], params))
        return jnp.mean((state @ params["out"] - batch["y"]) ** 2)

    return Case(loss, params, batch, hgeo.find_layers(params))


def fixed_point(key):
    """A deep equilibrium layer: the fixed point of a recurrence."""
    solver = optx.FixedPointIteration(rtol=1e-13, atol=1e-13)
    return _implicit(key, lambda f, start, args: optx.fixed_point(f, solver, start, args).value)


def newton(key):
    """The same layer as a root, found by Newton's method."""
    solver = optx.Newton(rtol=1e-13, atol=1e-13)

    def solve(f, start, args):
        return optx.root_find(lambda s, a: f(s, a) - s, solver, start, args).value

    return _implicit(key, solve)


MODELS = {
    model.__name__: model
    for model in (lineax_lu, lineax_cg, lineax_least_squares, fixed_point, newton)
}
