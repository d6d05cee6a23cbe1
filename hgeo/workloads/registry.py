"""The workloads by the name that a config gives them."""

from collections.abc import Callable

from hgeo.config import Config
from hgeo.errors import InputError
from hgeo.workloads.bert import bert
from hgeo.workloads.lm import language_model
from hgeo.workloads.resnet import resnet
from hgeo.workloads.translation import translation
from hgeo.workloads.workload import Workload

WORKLOADS: dict[str, Callable[[Config], Workload]] = {
    "lm": language_model,
    "translation": translation,
    "bert": bert,
    "resnet": resnet,
}


def make_workload(config: Config) -> Workload:
    """Reads the data of `config` and makes its model and loss.

    It reads the blocks `data` and `model`, `data_dir`, `cache_dir` and, for some workloads, keys of
    `probe` and `evaluation`. The experiment's `Resolved` has all else.

    Raises:
      InputError: an unknown workload, or data or model settings that can't be used.
    """
    if config.workload not in WORKLOADS:
        raise InputError(f"workload must be one of {list(WORKLOADS)}, not {config.workload!r}")
    return WORKLOADS[config.workload](config)
