"""Timing: several ways to the same result, measured in turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

Key = TypeVar("Key")


class Timing(NamedTuple):
    """Seconds that one call took: median and least of several rounds."""

    median: float
    least: float


def measure(calls: Mapping[Key, Callable[[], Any]], rounds: int) -> dict[Key, Timing]:
    """Times every call once in each round, in turns, so that all see the same load of the machine.

    Each call must have run before (compiled, caches warm) and must wait for its own result.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[key].append(time.perf_counter() - start)
    return {key: Timing(statistics.median(s), min(s)) for key, s in seconds.items()}
