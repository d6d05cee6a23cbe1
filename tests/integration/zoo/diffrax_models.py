"""Diffrax: neural differential equations."""

import diffrax
import jax
import jax.numpy as jnp

import hgeo
from tests.integration.zoo.inputs import draws
from tests.probes.families import Case


def _case(key, adjoint, controller):
    draw = draws(key)
    params = {"w1": draw(2, 4), "w2": draw(4, 2)}
    batch = {"x": draw(3, 2), "y": draw(3, 2)}

    def field(time, state, params):
        return jnp.tanh(state @ params["w1"]) @ params["w2"] - 0.1 * time * state

    def loss(params, batch):
        def final(start):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(field),
                diffrax.Heun(),
                t0=0.0,
                t1=1.0,
                dt0=0.5,
                y0=start,
                args=params,
                adjoint=adjoint,
                stepsize_controller=controller,
                max_steps=16,
            ).ys[0]

        return jnp.mean((jax.vmap(final)(batch["x"]) - batch["y"]) ** 2)

    return Case(loss, params, batch, hgeo.find_layers(params))


def checkpointed(key):
    """With Diffrax's own adjoint, the recursive checkpoints, which has a reverse rule alone."""
    return _case(key, diffrax.RecursiveCheckpointAdjoint(), diffrax.ConstantStepSize())


def direct(key):
    """With every step differentiated as it was taken, at a constant step."""
    return _case(key, diffrax.DirectAdjoint(), diffrax.ConstantStepSize())


def adaptive(key):
    """The same with steps of adaptive size."""
    controller = diffrax.PIDController(rtol=1e-2, atol=1e-2)
    return _case(key, diffrax.DirectAdjoint(), controller)


def forward(key):
    """With forward derivatives alone: a loop of unknown length."""
    return _case(key, diffrax.ForwardMode(), diffrax.ConstantStepSize())


MODELS = {model.__name__: model for model in (checkpointed, direct, adaptive, forward)}
