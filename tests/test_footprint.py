import re

import jax
import pytest

from hgeo.footprint import footprint
from hgeo.workloads.registry import make_workload
from tests.experiments import load_config


@pytest.mark.slow
def test_says_what_updates_and_probe_need(capsys):
    config = load_config("quickstart", "smoke")
    with jax.numpy_dtype_promotion("standard"):
        footprint(config, steps=1)
        params = make_workload(config).init(jax.random.key(0))["params"]
    said = capsys.readouterr().out
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert f"parameters: {count:,} in" in said
    updates = re.findall(r"an update of (\S+): ([\d.,]+) GFLOP, .* of temporaries", said)
    assert [name for name, _ in updates] == ["SGD+M", "Adam"]
    assert len(re.findall(r"  loss \d\.\d{4} in", said)) == 2
    assert "a probe of 8 layers" in said
    assert re.search(r"\d s, compilation included; adjoint_weighted", said)
