"""Optimizers by name, with the definitions that the paper's runs (PyTorch) have."""

import inspect
from collections.abc import Mapping
from typing import Any

import optax

from hgeo.errors import InputError


def sgd(learning_rate: float) -> optax.GradientTransformation:
    """w ← w − η g."""
    return optax.sgd(learning_rate)


def sgdm(learning_rate: float, momentum: float = 0.9) -> optax.GradientTransformation:
    """SGD with momentum (SGD+M): m ← μ m + g, w ← w − η m."""
    return optax.sgd(learning_rate, momentum=momentum)


def adam(
    learning_rate: float, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Adam: w ← w − η m̂ / (√v̂ + ε), with m̂ and v̂ the bias-corrected moments.

    Reference: Kingma, Ba. Adam: A Method for Stochastic Optimization. 2015.
    """
    return optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)


def adagrad(learning_rate: float, eps: float = 1e-10) -> optax.GradientTransformation:
    """Adagrad: s ← s + g², w ← w − η g / √(s + ε²), s from 0.

    PyTorch adds ε outside the root and starts at 0; Optax's defaults start at 0.1 and have ε = 1e-7
    inside. ε² inside the root is PyTorch's scale of ε; the two differ only where √s is near ε.

    Reference: Duchi, Hazan, Singer. Adaptive Subgradient Methods. 2011.
    """
    return optax.adagrad(learning_rate, initial_accumulator_value=0.0, eps=eps**2)


OPTIMIZERS = {"sgd": sgd, "sgdm": sgdm, "adam": adam, "adagrad": adagrad}

LABELS = {"sgd": "SGD", "sgdm": "SGD+M", "adam": "Adam", "adagrad": "Adagrad"}


def check_name(name: str) -> None:
    """Raises an InputError unless `name` is a known optimizer's."""
    if name not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {name!r}; known are {', '.join(OPTIMIZERS)}")


def make_optimizer(name: str, arguments: Mapping[str, Any]) -> optax.GradientTransformation:
    """The optimizer of a name and its config block.

    Raises:
      InputError: an unknown name, an argument that it doesn't take, a rate that isn't positive.
    """
    check_name(name)
    allowed = list(inspect.signature(OPTIMIZERS[name]).parameters)
    unknown = sorted(set(arguments) - set(allowed))
    if unknown:
        raise InputError(f"config.{name} has {unknown}, but takes only {allowed}")
    rate = arguments.get("learning_rate")
    if not isinstance(rate, (int, float)) or not rate > 0:
        raise InputError(f"config.{name}.learning_rate must be a positive number, not {rate!r}")
    return OPTIMIZERS[name](**arguments)
