"""Random integers in place of the targets: a task that can only be memorised."""

import numpy as np

from hgeo.errors import InputError


def random_targets(
    targets_NxT: np.ndarray,
    size: int,
    seed: int,
    *,
    lowest: int = 0,
    pad_id: int | None = None,
    first: int = 0,
) -> np.ndarray:
    """Integers drawn once for each example, uniform in [lowest, size), padding left in its place.

    The integers of example n depend on the seed and n alone.

    Args:
      targets_NxT: the true targets; they give the shape and where the padding is.
      size: of the vocabulary.
      seed: 0 or more.
      lowest: the smallest integer drawn (above the special tokens, where there are some).
      pad_id: the target that is padding, or `None`.
      first: the number of the first example; held-out examples follow those of training.

    Returns:
      int32, (N, T).

    Raises:
      InputError: an empty range, or a negative seed.
    """
    if seed < 0:
        raise InputError(f"the seed of random targets must be 0 or more, not {seed}")
    if not 0 <= lowest < size:
        raise InputError(f"random targets need lowest in 0 to {size - 1}, not {lowest}")
    length = targets_NxT.shape[1]
    rows = [
        np.random.default_rng((seed, n)).integers(lowest, size, length, dtype=np.int32)
        for n in range(first, first + len(targets_NxT))
    ]
    drawn = np.array(rows, np.int32).reshape(targets_NxT.shape)
    if pad_id is None:
        return drawn
    return np.where(targets_NxT == pad_id, np.int32(pad_id), drawn)
