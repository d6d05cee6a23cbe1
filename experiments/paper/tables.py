"""The tables of R_med, the paper's 1 to 10 and ours: which runs stand beside which numbers."""

from experiments.paper.comparison import Comparison, Side, epochs
from experiments.paper.run_set import LARGE_SCALES
from hgeo.optimizers import label

_SGDM, _ADAM = "sgdm", "adam"
_OF_LM = epochs(40, 1, 20, 40)
_ALL = (*LARGE_SCALES, "smoke")


def _pair(table: str, runs: str, checkpoints, matches=LARGE_SCALES, setting="") -> Comparison:
    return Comparison(table, Side(runs, _SGDM), Side(runs, _ADAM), checkpoints, matches, setting)


def _lm(table: str, runs: str, setting: str) -> Comparison:
    return Comparison(table, Side(runs, "sgd"), Side(runs, "adagrad"), _OF_LM, _ALL, setting)


def _newer(name: str) -> Comparison:
    """SGD+M and another optimizer at each of the config's equal losses, and at the last step."""
    runs = "lm_optimizers"
    at = {f"loss {place + 1}": place for place in range(3)} | {"last step": (1, 1)}
    return Comparison("", Side(runs, _SGDM), Side(runs, name), at, (), label(name))


# By id: the title, and what is compared.
TABLES: dict[str, tuple[str, tuple[Comparison, ...]]] = {
    "table1": (
        "Table 1: BERT on IMDB, R_med of SGD+M and Adam",
        (
            _pair(
                "1",
                "bert",
                {f"iteration {n}": (n, 2500) for n in (0, 750, 1250)},
                matches=("paper", "gpu"),
            ),
        ),
    ),
    "table2a": (
        "Table 2(a): translation, R_med of SGD+M and Adam",
        (_pair("2a", "translation", epochs(60, 0, 30, 55)),),
    ),
    "table2b": (
        "Table 2(b): translation with random targets, R_med of SGD+M and Adam",
        (_pair("2b", "translation_random", epochs(60, 0, 30, 55)),),
    ),
    "table3": (
        "Table 3: language model, uniform initial weights, R_med of SGD and Adagrad",
        (
            _lm("3 (uniform init, first gain)", "lm_uniform_2", "gain 2"),
            _lm("3 (uniform init, second gain)", "lm_uniform", "gain 1"),
        ),
    ),
    "table4": (
        "Table 4: language model, normal initial weights, R_med of SGD and Adagrad",
        (
            _lm("4 (normal init, first gain)", "lm_normal_2", "gain 2"),
            _lm("4 (normal init, second gain)", "lm_normal", "gain 1"),
        ),
    ),
    "table5": (
        "Table 5: language model with random targets, R_med of SGD and Adagrad",
        (_lm("5", "lm_random", ""),),
    ),
    "table6": (
        "Table 6: translation, R_med of SGD+M, RMSprop and AMSGrad",
        tuple(
            Comparison(
                "6",
                Side("translation", "sgdm"),
                Side("translation_adaptive", name, series),
                epochs(60, 10, 20, 40),
                setting=title,
            )
            for name, series, title in (
                ("rmsprop", "adaptive_1", "RMSprop"),
                ("amsgrad", "adaptive_2", "AMSGrad"),
            )
        ),
    ),
    "table7": (
        "Table 7: R_med of SGD+M and Adam at equal training loss",
        (
            _pair(
                "7 (first part)",
                "bert_same_loss",
                {f"loss {loss}": k for k, loss in enumerate(("0.251", "0.170", "0.133"))},
                matches=("paper", "gpu"),
                setting="BERT",
            ),
            _pair(
                "7 (second part)",
                "translation_same_loss",
                {f"loss {loss}": k for k, loss in enumerate(("3.72", "2.78", "1.90"))},
                setting="translation",
            ),
        ),
    ),
    "table8": (
        "Table 8: translation, SGD without momentum, and Adam after it, against Adam",
        (
            Comparison(
                "8",
                Side("translation_switch", "sgd"),
                Side("translation", "adam"),
                {"before switch": (30, 60)},
                setting="before the switch",
            ),
            Comparison(
                "8",
                Side("translation_switch", "adam_after_sgd"),
                Side("translation", "adam"),
                {"after switch": (55, 60)},
                setting="after the switch",
            ),
            Comparison(
                "8",
                Side("translation_switch", "sgd"),
                Side("translation", "adam"),
                {"after switch": (55, 60)},
                setting="control: SGD that never switches",
            ),
        ),
    ),
    "table9": (
        "Table 9: translation with weight decay 0.001, R_med of SGD+M and Adam",
        (_pair("9", "translation_weight_decay", epochs(60, 0, 30, 55)),),
    ),
    "table10": (
        "Table 10: ResNet on CIFAR-10, R_med of SGD+M and Adam",
        (_pair("10", "resnet", epochs(41, 10, 20, 40), _ALL),),
    ),
    "extra_optimizers": (
        "R_med of SGD+M over newer optimizers at tuned rates, at equal training loss",
        tuple(_newer(name) for name in ("adamw", "lion", "muon")),
    ),
}

CLAIMS = {
    "extra_optimizers": "beyond the paper, SGD+M's R_med over the other's",
    "table8": "the paper claims that the gap closes after the switch",
    "table10": "the paper claims that Adam is not the more uniform one",
}
