"""The user's function that returns what to probe: loss, template and batch."""

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from hgeo.errors import InputError
from hgeo.params.leaf_paths import leaves_by_path

PyTree = Any


class Target(NamedTuple):
    """What to probe.

    Attributes:
      loss: `loss(params, batch)`, or the pair `(outputs, head)`.
      template: a pytree of arrays or `jax.ShapeDtypeStruct`s with the params' structure.
      batch: a pytree of arrays.
      shardings: the module's function `shardings(mesh, params)`, if it has one.
    """

    loss: Any
    template: PyTree
    batch: PyTree
    shardings: Callable[[Any, PyTree], PyTree] | None = None


def load_target(target: str) -> Target:
    """Calls the function of `module:function`; the current folder is searched for the module, too.

    Raises:
      InputError: there is no such function, it fails, or it returns something else.
    """
    what = f"--target={target}"
    module_name, colon, name = target.partition(":")
    if not colon or not module_name or not name:
        raise InputError(f"{what} must be MODULE:FUNCTION, such as my_model:probe_target")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(
                f"{what}: {module_name} needs a module that is absent: {error}"
            ) from error
        raise InputError(f"{what}: there is no module {error.name!r} here or installed") from error
    except Exception as error:
        raise InputError(f"{what}: importing it fails: {_where(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{what}: {module_name} has no function {name!r}{_functions(module)}")
    shardings = getattr(module, "shardings", None)
    found = _checked(what, function)
    return found._replace(shardings=shardings if callable(shardings) else None)


def _checked(what: str, function: Callable[[], Any]) -> Target:
    try:
        given = function()
    except Exception as error:
        raise InputError(f"{what} fails: {_where(error)}") from error
    if not isinstance(given, tuple) or len(given) != 3:
        kind = type(given).__name__ + (f" of {len(given)}" if isinstance(given, tuple) else "")
        raise InputError(f"{what} must return (loss, params template, batch), not a {kind}")
    found = Target(*given)
    parts = found.loss if isinstance(found.loss, tuple) else (found.loss,)
    if not all(map(callable, parts)) or len(parts) > 2:
        raise InputError(
            f"{what} must return as its loss a function or a pair (outputs, head), "
            f"not {found.loss!r}"
        )
    for name, tree in (("params template", found.template), ("batch", found.batch)):
        leaves = leaves_by_path(tree)
        others = [
            path
            for path, leaf in leaves.items()
            if not hasattr(leaf, "dtype") and not isinstance(leaf, (bool, int, float, np.number))
        ]
        if others or not leaves:
            raise InputError(
                f"{what} must return as its {name} a pytree of arrays; "
                + (f"none are {others[:3]}" if others else "it has none")
            )
    return found


def _functions(module: Any) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    return f"; it has {', '.join(sorted(names)[:8])}" if names else ""


def _where(error: Exception) -> str:
    """The error in one line, with the place where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} ({place.filename}, line {place.lineno})"
