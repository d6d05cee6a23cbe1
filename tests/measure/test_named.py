"""Statistics of the optimizer's update, and names of statistics that a config rejects."""

import jax
import numpy as np
import pytest

from hgeo.devices import make_mesh
from hgeo.errors import InputError
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.resolve import resolve
from hgeo.experiment.shared_resources import optimizer_view
from hgeo.optimizers import make_optimizer
from tests.every_statistic import every_statistic
from tests.experiments import load_config, run
from tests.local_data import write_wikitext2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return every_statistic(str(write_wikitext2(tmp_path_factory.mktemp("data"))))


@pytest.mark.slow
def test_what_the_optimizer_sees_is_the_update_that_would_follow(config):
    resolved = resolve(config)
    workload, plan = resolved.read_workload(), resolved.plans[1]
    variables = workload.init(jax.random.key(0))
    mesh = make_mesh(jax.devices()[:2])
    probe = GeometryProbe(resolved.probe, workload, variables, jax.random.key(1), mesh)
    view = optimizer_view(resolved, plan)
    optimizer = make_optimizer(plan.optimizer, plan.arguments)
    state = optimizer.init(variables["params"])
    with jax.numpy_dtype_promotion("standard"):
        gradient, adaptive, divisor = map(
            np.asarray,
            next(iter(probe.directions(variables, state, view).values())),
        )
    # Adam's first update: the moments, corrected, are g and g².
    np.testing.assert_allclose(divisor, np.abs(gradient), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(adaptive, gradient / divisor, rtol=1e-3, atol=1e-5)

    batch = probe._batch
    exact = jax.grad(
        lambda params: (lambda w: w.total / w.weight)(
            workload.loss({**variables, "params": params}, jax.device_get(batch))
        )
    )(variables["params"])
    name, own = next(iter(probe._context.coordinates.items()))
    truth = own.layer.ravel({"params": exact})[own.indices]
    np.testing.assert_allclose(gradient, truth, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe__statistics": ("r_mid",)}, r"probe.statistics must name some of .* not \('r_mid'"),
        ({"probe__statistics": ()}, "probe.statistics must name some of"),
        ({"probe__eps": -1.0}, r"probe.eps must be 0 or more, not -1"),
        ({"probe__low_rank_share": 0.0}, r"low_rank_share must lie in \(0, 1\], not 0"),
        ({"probe__num_samples": 1}, "num_samples must be a whole number of at least 2, not 1"),
        ({"probe__num_matvecs": 0}, "num_matvecs must be a whole number of at least 1, not 0"),
        (
            {"probe__statistics": ("full",), "probe__max_gradients": 0.01},
            "probe: statistics has 'full', but the full diagonal costs as much as",
        ),
    ],
)
def test_bad_settings_are_said_before_any_work(config, changes, message, tmp_path):
    settings = {"probe__layers": (3,), "data_dir": config.data_dir} | changes
    with pytest.raises(InputError, match=message):
        run(load_config("lm", "smoke", **settings), tmp_path)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/*/losses.csv"))


def test_a_layer_too_large_for_its_condition_number_is_named(config, tmp_path):
    settings = {
        "data_dir": config.data_dir,
        "model__width": 64,
        "model__ffn_width": 256,
        "probe__statistics": ("condition_number",),
        "probe__layers": (3,),
    }
    with pytest.raises(InputError, match=r"at most 10000 weights, but larger are .*linear1"):
        run(load_config("lm", "smoke", **settings), tmp_path)
