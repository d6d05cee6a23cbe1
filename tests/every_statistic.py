"""A small language model of which every statistic is measured."""

from hgeo.measure.named import STATISTICS
from tests.experiments import load_config

LAYERS = (2, 6)  # output projections: no unit of theirs is dead
PAIR = {"optimizers": ("sgdm", "adam"), "compare": (("sgdm", "adam"),)}


def every_statistic(data_dir):
    """The config, on the data in a folder."""
    return load_config(
        "lm",
        "smoke",
        data_dir=data_dir,
        **PAIR,
        probe__layers=LAYERS,
        probe__steps=(0, 6),
        probe__statistics=tuple(STATISTICS),
        probe__num_coordinates=20,
    )
