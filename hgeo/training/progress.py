"""Progress of a whole experiment on the terminal, with an estimate of the time left."""

import statistics
from collections import defaultdict, deque
from collections.abc import Mapping

import rich.progress
from rich.console import Console


class Progress:
    """A bar over steps, probes and evaluations, weighted by the median of the last times of each.

    Use it as a context manager; it adds a line for every event, and shows the bar below them where
    the output is a terminal.
    """

    def __init__(self, console: Console):
        """Starts with nothing to do."""
        self._left: dict[str, int] = {}
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=5))
        self._spent = 0.0
        self._console = console
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=1.0, left="")

    def __enter__(self):
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_):
        """Removes the bar."""
        self._bar.stop()

    def done(self, kind: str, number: int, seconds: float, doing: str) -> None:
        """Records that `number` of a kind took so many seconds, and shows what is being done."""
        self._left[kind] = self._left.get(kind, 0) - number
        self._seconds[kind].append(seconds / number)
        self._spent += seconds
        left = self.seconds_left()
        self._bar.update(
            self._task,
            description=doing,
            completed=0.0 if left is None else self._spent / (self._spent + left),
            left=self.estimate(),
        )

    def expect(self, missing: Mapping[str, int]) -> None:
        """Sets how many of each kind are left."""
        self._left = dict(missing)

    def seconds_left(self) -> float | None:
        """Estimated seconds until the end; `None` before every kind has been timed."""
        wanted = {kind: number for kind, number in self._left.items() if number > 0}
        if any(kind not in self._seconds for kind in wanted):
            return None
        return sum(n * statistics.median(self._seconds[kind]) for kind, n in wanted.items())

    def estimate(self) -> str:
        """The estimate in words."""
        left = self.seconds_left()
        if left is None:
            return "estimating"
        minutes, seconds = divmod(round(left), 60)
        return f"about {minutes} min {seconds:02d} s left" if minutes else f"about {seconds} s left"

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._console.print(line, highlight=False, soft_wrap=True)
