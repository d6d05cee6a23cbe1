"""The smoke configs of every workload, on small local copies of the data."""

from tests.experiments import load_config

CHANGES = {
    "lm": {
        "data__split": "train",
        "data__vocabulary_size": None,
        "optimizers": ("adagrad", "adam"),
        "compare": (("adagrad", "adam"),),
        "probe__layers": (2, 7),
    },
    "translation": {"data__vocabulary_size": None, "probe__layers": (2, 7, 11)},
    "bert": {"data__source": "aclImdb", "model__vocabulary_size": 60, "probe__layers": (6, 13)},
    "resnet": {"probe__layers": (1, 6, 10)},
}
BATCH_NORM = {"resnet-evaluation": {"probe__batch_norm": "evaluation"}}


def config_of(name, data, **changes):
    name, *variant = name.split("-")
    changes = CHANGES[name] | (BATCH_NORM[f"{name}-{variant[0]}"] if variant else {}) | changes
    return load_config(name, "smoke", data_dir=data, **changes)
