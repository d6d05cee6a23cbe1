"""Every workload through the one train loop, on local copies of its data."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import hgeo
from hgeo.devices import make_mesh
from hgeo.workloads.registry import WORKLOADS, make_workload
from tests.experiments import load_config, records, rows, run
from tests.workload_configs import BATCH_NORM, config_of


@pytest.fixture(scope="module", params=[*WORKLOADS, *BATCH_NORM])
def finished(request, small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config = config_of(request.param, small_data)
    finite, said = run(config, folder)
    assert finite
    return config, folder, said


def variables_at(folder, optimizer, step, like):
    manager = ocp.CheckpointManager((folder / f"runs/{optimizer}/repeat_0/checkpoints").absolute())
    stored = manager.restore(step, args=ocp.args.StandardRestore())["variables"]
    manager.close()
    return jax.tree.map(lambda leaf, value: jnp.asarray(value, leaf.dtype), like, stored)


def mean_over_devices(workload, variables, batch):
    """The loss of the whole batch on one device that stands for all."""
    on_one = jax.vmap(lambda batch: workload.loss(variables, batch), axis_name="data")
    value = on_one(jax.tree.map(lambda x: x[None], batch))
    return value.total[0] / value.weight[0]


def test_recorded_curvature_is_that_of_the_checkpoint(finished):
    """A dense Hessian of the checkpointed variables gives the recorded numbers."""
    config, folder, _ = finished
    workload = make_workload(config)
    variables = variables_at(folder, "adam", 6, workload.init(jax.random.key(0)))
    names = [workload.layer_paths[number - 1] for number in config.probe.layers]
    layers = hgeo.find_layers(variables["params"], names)
    key = jax.random.split(jax.random.key(config.seed), 3)[1]
    coordinates = hgeo.sample_coordinates(layers, config.probe.num_coordinates, key)
    order = np.random.default_rng([config.seed, 0xBA7C]).permutation(workload.num_examples)
    chosen = np.sort(order[: config.probe.batch_size])
    batch = {name: jnp.asarray(array[chosen]) for name, array in workload.examples.items()}

    recorded = {
        (r["layer"], r["statistic"]): float(r["value"])
        for r in rows(folder, "geometry")
        if (r["optimizer"], r["step"]) == ("adam", "6")
    }
    for name in names:
        at = coordinates[name].indices
        layer, vector = layers[name], layers[name].ravel(variables["params"])

        def of_entries(values, layer=layer, vector=vector, at=at):
            params = layer.replace(variables["params"], vector.at[at].set(values))
            with jax.numpy_dtype_promotion("standard"):
                return mean_over_devices(workload, {**variables, "params": params}, batch)

        dense = np.abs(jnp.diagonal(jax.jit(jax.hessian(of_entries))(vector[at])))
        np.testing.assert_allclose(recorded[name, "max_abs"], dense.max(), rtol=2e-3)
        np.testing.assert_allclose(
            recorded[name, "median_abs"], np.median(dense), rtol=2e-3, atol=1e-4 * dense.max()
        )


@pytest.mark.slow
def test_one_device_gives_the_numbers_of_eight(finished, tmp_path, monkeypatch):
    config, folder, _ = finished
    with monkeypatch.context() as patch:
        patch.setattr(
            "hgeo.experiment.shared_resources.make_mesh", lambda: make_mesh(jax.devices()[:1])
        )
        run(config, tmp_path)
    for name, column in (("losses", "loss"), ("geometry", "value"), ("evaluation", "value")):
        for one, eight in zip(rows(tmp_path, name), rows(folder, name), strict=True):
            assert one.keys() == eight.keys()
            np.testing.assert_allclose(
                float(one[column]), float(eight[column]), rtol=5e-3, atol=1e-6, err_msg=str(one)
            )


def test_evaluation_counts_every_held_out_example_once(finished):
    config, folder, _ = finished
    workload = make_workload(config)
    variables = variables_at(folder, "adam", 6, workload.init(jax.random.key(0)))
    count = len(next(iter(workload.held_out.values())))
    assert count % config.evaluation.batch_size, "the last piece should be filled up"
    held_out = jax.tree.map(jnp.asarray, workload.held_out)
    metrics = workload.metrics(variables, held_out)
    recorded = {
        r["metric"]: float(r["value"])
        for r in rows(folder, "evaluation")
        if (r["optimizer"], r["step"]) == ("adam", "6")
    }
    for name, (total, weight) in metrics.items():
        assert total.shape == weight.shape == (count,)
        np.testing.assert_allclose(recorded[name], total.sum() / weight.sum(), rtol=1e-5)
    assert set(recorded) - set(metrics) == ({"bleu"} if config.workload == "translation" else set())


def test_a_resumed_run_ends_with_the_same_numbers(small_data, tmp_path, monkeypatch):
    config = config_of("resnet", small_data, checkpoint_every=2, optimizers=("adam",), compare=())
    run(config, tmp_path / "calm")
    calls = []

    def stop_after_two(self, step, state, original=ocp.CheckpointManager.save):
        calls.append(step)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self._manager, step, args=ocp.args.StandardSave(state), force=True)

    with monkeypatch.context() as patch:
        patch.setattr("hgeo.training.checkpoints.Checkpoints.save", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "losses.csv").exists()
    run(config, tmp_path / "stopped")
    assert records(tmp_path / "stopped") == records(tmp_path / "calm")


def test_losses_fall_under_every_optimizer(small_data, tmp_path):
    names = ("sgd", "sgdm", "adam", "rmsprop", "amsgrad")
    config = config_of(
        "translation",
        small_data,
        steps=60,
        optimizers=names,
        compare=(),
        probe__steps=(),
        evaluation__steps=(),
    )
    finite, _ = run(config, tmp_path)
    assert finite
    losses = rows(tmp_path, "losses")
    for name in names:
        curve = [float(r["loss"]) for r in losses if r["optimizer"] == name]
        assert len(curve) == 60
        assert np.mean(curve[-5:]) < 0.9 * np.mean(curve[:3]), name


@pytest.mark.parametrize("finished", ["resnet"], indirect=True)
def test_training_moves_batch_statistics_and_says_the_mode(finished):
    config, folder, said = finished
    assert "BatchNorm in train mode" in said
    start = make_workload(config).init(jax.random.key(0))
    end = variables_at(folder, "sgdm", 6, start)
    for before, after in zip(
        jax.tree.leaves(start["batch_stats"]), jax.tree.leaves(end["batch_stats"]), strict=True
    ):
        assert not np.allclose(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_on_real_data(data_dir, tmp_path, name):
    config = load_config(
        name,
        "smoke",
        data_dir=data_dir,
        optimizers=("adam",),
        compare=(),
        probe__steps=(6,),
        probe__layers=(3, 6),
    )
    finite, _ = run(config, tmp_path)
    assert finite
    layers = {row["layer"] for row in rows(tmp_path, "geometry")}
    assert len(layers) == len(config.probe.layers)
    assert rows(tmp_path, "evaluation")
