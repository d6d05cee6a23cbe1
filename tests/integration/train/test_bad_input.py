"""Layers with fewer weights than coordinates asked for are named."""

from tests.experiments import load_config, run


def test_fewer_coordinates_than_asked_are_said(tmp_path):
    config = load_config(
        "quickstart",
        "smoke",
        probe__num_coordinates=300,
        probe__chunk_size=64,
        probe__steps=(0,),
        probe__layers=(2, 3),
        steps=1,
        optimizers=("adam",),
        compare=(),
    )
    _, said = run(config, tmp_path)
    assert "note: these layers have fewer than num=300 weights, so all of them are taken" in said
    assert "block0/linear1/kernel (256)" in said
