"""TensorFlow Datasets builders of Multi30k and WikiText-2 from their official files.

    builder = Multi30k(files="DATA/multi30k", data_dir="DATA/tfds", file_format="array_record")
    builder.download_and_prepare()
    builder.as_data_source("train")[0]

With `files` nothing is downloaded; without, the official files are.
"""

from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from hgeo.data.files import read_lines
from hgeo.data.multi30k import SPLITS, read_pair
from hgeo.errors import InputError

MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/{}.{}.gz"
WIKITEXT2 = "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/{}.txt"


class _FromFiles(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder that may be given its files."""

    def __init__(self, *, files: str | None = None, **settings: Any):
        """`files` is the folder with the official files; `None` downloads them."""
        self.files = files
        super().__init__(**settings)


class Multi30k(_FromFiles, skip_registration=True):
    """Task 1 of Multi30k, German and English: 29,000 / 1,014 / 1,000 captions."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        text = tfds.features.Text()
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"de": text, "en": text}),
            supervised_keys=("de", "en"),
            homepage="https://github.com/multi30k/dataset",
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(dl_manager, split) for split in SPLITS}

    def _generate_examples(self, dl_manager, split):
        if self.files is not None:
            folder = Path(self.files)
            if folder.name != "multi30k":
                raise InputError(f"files must be a folder named multi30k, not {self.files!r}")
            source, target = read_pair(str(folder.parent), split)
        else:
            urls = {k: MULTI30K.format(SPLITS[split], k) for k in ("de", "en")}
            paths = dl_manager.download(urls)
            source, target = (read_lines(Path(paths[k])) for k in ("de", "en"))
            if len(source) != len(target):
                raise InputError(f"{urls} have {len(source)} and {len(target)} lines")
        for n, (de, en) in enumerate(zip(source, target, strict=True)):
            yield n, {"de": de, "en": en}


class Wikitext2(_FromFiles, skip_registration=True):
    """WikiText-2, word level, line by line; the splits whose files are there."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            homepage="https://arxiv.org/abs/1609.07843",
        )

    def _split_generators(self, dl_manager):
        names = ("train", "valid", "test")
        if self.files is None:
            paths = dl_manager.download({name: WIKITEXT2.format(name) for name in names})
            found = {name: Path(paths[name]) for name in names}
        else:
            paths = {name: Path(self.files) / f"wiki.{name}.tokens" for name in names}
            found = {name: path for name, path in paths.items() if path.is_file()}
            if not found:
                raise InputError(f"{self.files} holds no file wiki.SPLIT.tokens with {names}")
        return {name: self._generate_examples(path) for name, path in found.items()}

    def _generate_examples(self, path):
        for n, line in enumerate(read_lines(path)):
            yield n, {"text": line}
