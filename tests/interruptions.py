"""Runs that are stopped in their middle."""

import contextlib

import pytest


class StopError(Exception):
    """What stops a run in a test."""


def stop():
    raise StopError


@contextlib.contextmanager
def interrupted(owner, method, call, action=stop, ends_with=StopError):
    """Within it, `action` comes before the call number `call` of a method, and ends the block.

    The block must end with an exception of the kind `ends_with`.
    """
    original, calls = getattr(owner, method), []

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            action()
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, counted)
        with pytest.raises(ends_with):
            yield
