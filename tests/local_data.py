"""Small local copies of the data sets in their official layouts; there is something to learn."""

import gzip
import io

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

GERMAN = ("ein", "Hund", "Mann", "Kind", "läuft", "sitzt", "spielt", "hier", "dort", "heute")
ENGLISH = ("a", "dog", "man", "child", "runs", "sits", "plays", "here", "there", "today")
WIKITEXT = {"train": 4000, "valid": 1500, "test": 1500}
MULTI30K = {"train": 61, "val": 20, "test_2016_flickr": 21}


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images of one colour a class, under the name and version of the official set."""

    VERSION = tfds.core.Version("3.0.2")

    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(64, 0), "test": self._generate_examples(45, 1)}

    def _generate_examples(self, count, seed):
        rng = np.random.default_rng(seed)
        for n in range(count):
            label = n % 10
            noise = rng.integers(0, 60, size=(32, 32, 3))
            image = np.clip(noise + np.array([20 * label, 200 - 20 * label, 90]), 0, 255)
            png = io.BytesIO()  # TFDS encodes arrays by TensorFlow, and takes files as they are
            PIL.Image.fromarray(image.astype(np.uint8)).save(png, format="png")
            png.seek(0)
            yield n, {"id": f"{n}", "image": png, "label": label}


def write_wikitext2(root):
    """Writes a Wikitext-2 below `root`; returns `root`."""
    rng = np.random.default_rng(1)
    folder = root / "wikitext-2"
    folder.mkdir()
    for split, count in WIKITEXT.items():
        words = [ENGLISH[n] for n in rng.integers(0, 10, size=count)]
        (folder / f"wiki.{split}.tokens").write_text(" ".join(words))
    return root


def write_all(root):
    """Writes all four data sets below `root`."""
    rng = np.random.default_rng(0)
    folder = root / "multi30k"
    folder.mkdir()
    for split, count in MULTI30K.items():
        sentences = [rng.integers(0, 10, size=rng.integers(2, 9)) for _ in range(count)]
        for language, words in (("de", GERMAN), ("en", ENGLISH)):
            text = "".join(" ".join(words[n] for n in s) + ".\n" for s in sentences)
            (folder / f"{split}.{language}.gz").write_bytes(gzip.compress(text.encode()))

    write_wikitext2(root)
    for split, count in (("train", 40), ("test", 21)):
        for n in range(count):
            good = n % 2
            folder = root / "aclImdb" / split / ("pos" if good else "neg")
            folder.mkdir(parents=True, exist_ok=True)
            words = [ENGLISH[k] for k in rng.integers(0, 10, size=8)]
            words[2] = "lovely" if good else "dreadful"
            (folder / f"{n}_{9 if good else 2}.txt").write_text(" ".join(words))

    builder = Cifar10(data_dir=str(root / "tfds"), file_format="array_record")
    builder.download_and_prepare()
