import sys

import numpy as np
import pytest

from hgeo.data.cifar10 import make_images, read_cifar10
from hgeo.errors import InputError


def test_normalised():
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    pixels[1] = 255
    images = make_images(pixels, np.array([0, 9]))
    assert images.images.dtype == np.float32
    np.testing.assert_allclose(images.images[0, 0, 0, 0], -0.4914 / 0.2470, rtol=1e-6)
    np.testing.assert_allclose(images.images[1, 3, 4, 2], (1 - 0.4465) / 0.2616, rtol=1e-6)


@pytest.mark.parametrize("labels", [[0, 10], [-1, 3], [1]])
def test_bad_labels(labels):
    with pytest.raises(InputError, match="label"):
        make_images(np.zeros((2, 32, 32, 3), np.uint8), np.array(labels))


def test_bad_pixels():
    with pytest.raises(InputError, match="float32 of"):
        make_images(np.zeros((2, 32, 32, 3), np.float32), np.array([0, 1]))


def test_not_prepared(tmp_path):
    with pytest.raises(InputError, match=r"tfds build cifar10 --data_dir=.*array_record"):
        read_cifar10(str(tmp_path), "train")
    with pytest.raises(InputError, match="'valid'"):
        read_cifar10(str(tmp_path), "valid")


def test_prepared_folder_that_is_damaged(tmp_path):
    folder = tmp_path / "tfds" / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="can't be read as array_record"):
        read_cifar10(str(tmp_path), "train")


def test_real_images(data_dir):
    images = read_cifar10(data_dir, "test")
    assert images.images.shape == (2000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(images.labels), 200)
    np.testing.assert_allclose(images.images.mean((0, 1, 2)), 0, atol=0.05)
    np.testing.assert_allclose(images.images.std((0, 1, 2)), 1, atol=0.05)
    few = read_cifar10(data_dir, "test", limit=5)
    np.testing.assert_array_equal(few.images, images.images[:5])
    assert "tensorflow" not in sys.modules
