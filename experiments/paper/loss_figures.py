"""The paper's figures of training losses: which runs each draws."""

import functools
from collections.abc import Callable

from experiments.paper.comparison import Side
from experiments.paper.loss_figure import Panel, loss_figure
from experiments.paper.result import Result
from experiments.paper.training import ReproductionContext


def _pair(title: str, runs: str, first: str = "sgdm", second: str = "adam") -> Panel:
    return Panel(title, Side(runs, first), (Side(runs, second),))


_FASTER = "the paper claims that Adam is faster than SGD+M"

# By id: title, panels and the paper's claim.
FIGURES: dict[str, tuple[str, tuple[Panel, ...], str]] = {
    "figure1a": (
        "Figure 1(a): translation, SGD+M from iterates of SGD+M and of Adam with the same loss",
        (
            Panel(
                "SGD+M from two iterates",
                Side("translation_branch", "sgdm_from_sgdm"),
                (Side("translation_branch", "sgdm_from_adam"),),
                since_start=True,
            ),
        ),
        "the paper claims that SGD+M is faster from Adam's iterate",
    ),
    "figure2": ("Figure 2: BERT on IMDB", (_pair("BERT", "bert"),), _FASTER),
    "figure3a": ("Figure 3(a): translation", (_pair("translation", "translation"),), _FASTER),
    "figure3b": (
        "Figure 3(b): translation with random targets",
        (_pair("random targets", "translation_random"),),
        _FASTER,
    ),
    "figure6": (
        "Figure 6: language model",
        (
            _pair("(a) Wikitext-2", "lm_uniform", "sgd", "adagrad"),
            _pair("(b) random targets", "lm_random", "sgd", "adagrad"),
        ),
        "the paper claims that Adagrad is faster than SGD",
    ),
    "figure7": (
        "Figure 7: translation",
        (
            Panel(
                "translation",
                Side("translation", "sgdm"),
                tuple(Side("translation_adaptive", name) for name in ("rmsprop", "amsgrad")),
            ),
        ),
        "the paper claims that RMSprop and AMSGrad are faster than SGD+M",
    ),
    "figure8": (
        "Figure 8: translation, Adam after SGD",
        (
            Panel(
                "translation",
                Side("translation_switch", "sgd"),
                (Side("translation_switch", "adam_after_sgd"), Side("translation", "adam")),
            ),
        ),
        "the paper claims that Adam after SGD closes the gap to Adam",
    ),
    "figure13a": (
        "Figure 13(a): translation with weight decay 0.001",
        (_pair("weight decay 0.001", "translation_weight_decay"),),
        _FASTER,
    ),
    "figure13b": (
        "Figure 13(b): ResNet on CIFAR-10",
        (_pair("ResNet", "resnet"),),
        "the paper claims that Adam is not faster than SGD+M",
    ),
}


def of(name: str) -> Callable[[ReproductionContext], Result]:
    """What makes a figure's result, from its id."""
    title, panels, claim = FIGURES[name]
    return functools.partial(_run, name, title, panels, claim)


def _run(name, title, panels, claim, context: ReproductionContext) -> Result:
    return loss_figure(name, title, panels, context, claim)
