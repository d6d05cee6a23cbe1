import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from hgeo.models.resnet import ResNet
from tests.probes.dense import quick

IMAGES = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))


@pytest.fixture(scope="module")
def variables():
    return quick(ResNet(channels=(4, 6), blocks=(1, 1)).init)(jax.random.key(1), IMAGES)


def train(axis_name, variables, images):
    model = ResNet(channels=(4, 6), blocks=(1, 1), axis_name=axis_name)
    return model.apply(variables, images, train=True, mutable=["batch_stats"])


def test_synchronised_statistics_are_those_of_the_whole_batch(variables):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.shard_map(
        lambda images: train("data", variables, images),
        mesh=mesh,
        in_specs=P("data"),
        out_specs=(P("data"), P()),
    )
    alone = quick(lambda images: train(None, variables, images))
    ours, whole = quick(spread)(IMAGES), alone(IMAGES)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, whole)
    halves = [alone(half)[0] for half in jnp.split(IMAGES, 2)]
    assert jnp.abs(jnp.concatenate(halves) - whole[0]).max() > 1e-2


def test_evaluation_needs_no_axis_and_treats_examples_alone(variables):
    model = ResNet(channels=(4, 6), blocks=(1, 1), axis_name="data")
    both = quick(lambda given, x: (model.apply(given, x), model.apply(given, x[:1])))
    logits, first = both(variables, IMAGES)
    np.testing.assert_allclose(first, logits[:1], atol=1e-5)


def test_layer_order_counts_ten():
    order = ResNet().layer_order()
    assert len(order) == 10
    assert order[3:6] == [f"stage2_block0/{name}/kernel" for name in ("conv1", "conv2", "shortcut")]
