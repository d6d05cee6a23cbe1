"""CIFAR-10: small colour images of ten classes, as TensorFlow Datasets prepares it.

Reference: Krizhevsky. Learning Multiple Layers of Features from Tiny Images. 2009.
"""

from typing import NamedTuple

import numpy as np

from hgeo.data.files import digest
from hgeo.data.prepared import read_prepared
from hgeo.errors import InputError

NUM_CLASSES = 10
SPLITS = ("train", "test")

# Of each colour over the official training split, in units of 255.
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2470, 0.2435, 0.2616)


class Images(NamedTuple):
    """Images and their classes.

    Attributes:
      images: float32, (N, 32, 32, 3), normalised: (pixel / 255 − mean) / deviation by colour.
      labels: int32, (N,), 0 to 9.
      sha256: digest of pixels and labels.
    """

    images: np.ndarray
    labels: np.ndarray
    sha256: str


def read_cifar10(data_dir: str, split: str, limit: int | None = None) -> Images:
    """A split of CIFAR-10, in the order of its records.

    Args:
      data_dir: holds `tfds/cifar10`.
      split: `"train"` or `"test"`.
      limit: the first examples alone; `None`, all.

    Raises:
      InputError: an unknown split, no prepared data, labels out of range, `limit` below 1.
    """
    if split not in SPLITS:
        raise InputError(f"data.split must be one of {SPLITS}, not {split!r}")
    if limit is not None and limit < 1:
        raise InputError(f"data.limit must be at least 1, not {limit}")
    source = read_prepared("cifar10", split, data_dir)
    count = len(source) if limit is None else min(limit, len(source))
    examples = [source[n] for n in range(count)]
    return make_images(
        np.stack([example["image"] for example in examples]),
        np.array([example["label"] for example in examples]),
    )


def make_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Normalises pixels of 0 to 255.

    Raises:
      InputError: pixels that are not uint8 of shape (N, 32, 32, 3), labels out of range or of
        another number.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (32, 32, 3):
        raise InputError(
            f"images must be uint8 of shape (N, 32, 32, 3), not {pixels.dtype} of {pixels.shape}"
        )
    check_labels(labels, len(pixels), NUM_CLASSES)
    scaled = pixels.astype(np.float32) / np.float32(255)
    images = (scaled - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    labels = labels.astype(np.int32)
    return Images(images, labels, digest([pixels.tobytes(), labels.tobytes()]))


def check_labels(labels: np.ndarray, count: int, num_classes: int) -> None:
    """Raises an `InputError` unless there is a label of 0 to `num_classes` − 1 for each example."""
    if labels.shape != (count,):
        raise InputError(
            f"there must be one label for each of {count} examples, not {labels.shape}"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if outside.size:
        n = int(outside[0])
        raise InputError(
            f"labels must be 0 to {num_classes - 1}; {outside.size} are not, the first is "
            f"{int(labels[n])}, of example {n}"
        )
