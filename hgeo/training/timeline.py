"""Timelines: when a run trains, on which examples, and when it is measured."""

import dataclasses
from collections.abc import Iterator

import numpy as np

MAX_BLOCK = 50


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When a run trains, on which examples, and when it is measured.

    Attributes:
      steps: the number of updates.
      measured_steps: steps at which something is measured.
      checkpoint_every: updates between further checkpoints; 0 for none.
      batch_size: examples of an update.
      num_examples: examples in the training set.
      seed: with `repeat` and the epoch it gives the order of the examples.
      repeat: which of the repeats this is.
      watched_steps: steps at which a loss is evaluated; their checkpoints are not kept.
      start: the first update's number; more than 0 for a run that begins at another's iterate.
    """

    steps: int
    measured_steps: tuple[int, ...]
    checkpoint_every: int
    batch_size: int
    num_examples: int
    seed: int
    repeat: int
    start: int = 0
    watched_steps: tuple[int, ...] = ()

    @property
    def events(self) -> list[int]:
        """Steps at which training pauses and its state is saved, temporarily or permanently."""
        return [s for s in sorted({*self.kept(True), *self.watched_steps}) if s >= self.start]

    def kept(self, regular: bool) -> set[int]:
        """Steps whose checkpoints stay: measured ones, the last and, if asked, regular ones."""
        every = self.checkpoint_every if regular else 0
        return {*self.measured_steps, self.steps, *(range(0, self.steps, every) if every else ())}

    def epoch(self, step: int) -> float:
        """Passes over the training set that `step` updates make."""
        return step / self._steps_per_epoch

    def batches(self, start: int, stop: int) -> np.ndarray:
        """Indices of the examples of updates `start` to `stop - 1`: int32, (updates, batch_size).

        Every epoch goes through the examples in a new order and leaves out those that fill no
        whole batch.
        """
        batches = []
        for step in range(start, stop):
            epoch, position = divmod(step, self._steps_per_epoch)
            if not batches or position == 0:
                order = np.random.default_rng((self.seed, self.repeat, epoch)).permutation(
                    self.num_examples
                )
            batches.append(order[position * self.batch_size : (position + 1) * self.batch_size])
        return np.stack(batches).astype(np.int32)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cuts updates `start` to `stop - 1` into blocks, whose losses are fetched together."""
        for first in range(start, stop, MAX_BLOCK):
            yield first, min(first + MAX_BLOCK, stop)

    @property
    def _steps_per_epoch(self) -> int:
        return self.num_examples // self.batch_size
