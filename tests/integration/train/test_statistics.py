"""Every statistic that a config can name is recorded, and is what the library gives."""

import csv

import jax
import numpy as np
import pytest

import hgeo
from hgeo.devices import make_mesh
from hgeo.experiment.fixed_batch_probe import GeometryProbe
from hgeo.experiment.resolve import resolve
from hgeo.measure.optimizer_view import OptimizerView
from hgeo.optimizers import make_optimizer, preconditioner_constants
from hgeo.records.run_records import RunRecords
from tests.every_statistic import LAYERS, PAIR, every_statistic
from tests.experiments import load_config, run
from tests.local_data import write_wikitext2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return every_statistic(str(write_wikitext2(tmp_path_factory.mktemp("data"))))


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    finite, said = run(config, folder)
    assert finite
    assert "R_med that the optimizer sees: SGD+M and Adam, and their ratio" in said
    assert "Spearman's ρ of |g| with |H_ii|: SGD+M and Adam\n" in said
    return folder


@pytest.fixture(scope="module")
def values(workdir):
    with (workdir / "geometry.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["optimizer"], int(row["step"]), int(row["layer_number"]), row["statistic"]): float(
            row["value"]
        )
        for row in rows
    }


@pytest.mark.slow
def test_each_says_how_many_entries_it_has(values):
    prefixes = (
        "", "r_med_spread_", "r_diag_", "r_diag_across_", "gradient_", "adaptive_gradient_",
        "preconditioned_", "weight_", "gauss_newton_", "fisher_", "full_", "spectrum_",
        "eigenvalues_",
    )  # fmt: skip
    for optimizer in ("sgdm", "adam"):
        for layer in LAYERS:
            of = lambda name, at=(optimizer, 6, layer): values[*at, name]
            for prefix in prefixes:
                assert of(f"{prefix}num_entries") > 0
                assert of(f"{prefix}num_zero") <= of(f"{prefix}num_entries")
                assert of(f"{prefix}num_nonfinite") == 0
            assert of("gradient_num_entries") == of("num_entries") == 20
            assert of("eigenvalues_num_entries") == of("full_num_entries")


@pytest.mark.slow
def test_each_leaves_a_finite_number(values):
    names = {
        "r_med", "r_med_low", "r_med_high", "r_diag_mean", "r_diag_across_median", "rho_gradient",
        "rho_adaptive", "preconditioned_r_med", "rank", "r_u", "r_v", "gauss_newton_r_med",
        "fisher_r_med", "full_r_med", "smoothness", "trace_error", "condition_number",
        "preconditioned_smoothness", "preconditioned_trace",
    }  # fmt: skip
    for optimizer in ("sgdm", "adam"):
        for step in (0, 6):
            for layer in LAYERS:
                found = {name: values[optimizer, step, layer, name] for name in names}
                assert all(np.isfinite(list(found.values()))), found


@pytest.mark.slow
def test_they_fit_together(values):
    for (optimizer, step, layer, name), value in values.items():
        at = lambda other, place=(optimizer, step, layer): values[*place, other]
        if name == "full_max_abs":
            assert value >= at("max_abs") * (1 - 1e-5)
            assert abs(value) <= at("smoothness") * (1 + 1e-5)  # |H_ii| ≤ ‖H‖
        if name == "largest_magnitude":  # in float64
            np.testing.assert_allclose(value, at("smoothness"), rtol=1e-4)
        if name == "r_diag_across_mean":
            assert value >= at("r_diag_mean")
        if name == "preconditioned_r_med" and optimizer == "sgdm":
            assert value == at("r_med")
        if name == "preconditioned_smoothness" and optimizer == "sgdm":
            np.testing.assert_allclose(value, at("smoothness"), rtol=1e-5)
    ours = [values["adam", 6, n, "preconditioned_r_med"] for n in LAYERS]
    plain = [values["adam", 6, n, "r_med"] for n in LAYERS]
    assert all(np.abs(np.log(np.divide(ours, plain))) > 1e-3)


@pytest.mark.slow
def test_the_arrays_behind_them_are_kept(workdir, values):
    records = RunRecords(workdir / "runs" / "adam" / "repeat_0")
    arrays = records.read_arrays(6)
    layers = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
    assert len(layers) == len(LAYERS)
    for layer, number in zip(layers, LAYERS, strict=True):
        diagonal = arrays[f"{layer}.diagonal"]
        assert diagonal.shape == (20,)
        value = values["adam", 6, number, "r_med"]
        np.testing.assert_allclose(hgeo.r_med(diagonal), value, rtol=1e-6)
        found = hgeo.alignment(
            diagonal, arrays[f"{layer}.gradient"], arrays[f"{layer}.adaptive_gradient"]
        )
        np.testing.assert_allclose(
            found.rho_adaptive, values["adam", 6, number, "rho_adaptive"], rtol=1e-6
        )


@pytest.mark.parametrize("name", ["lion", "muon"])
def test_what_adapts_without_second_moments_has_no_preconditioner(config, name):
    resolved = resolve(config)
    workload = resolved.read_workload()
    variables = workload.init(jax.random.key(0))
    mesh = make_mesh(jax.devices()[:1])
    probe = GeometryProbe(resolved.probe, workload, variables, jax.random.key(1), mesh)
    optimizer = make_optimizer(name, {"learning_rate": 0.01})
    view = OptimizerView(optimizer, 0.01, preconditioner_constants(name, {}))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        found = probe.directions(variables, optimizer.init(variables["params"]), view)
    for gradient, adaptive, divisor in found.values():
        assert np.isfinite(gradient).all()
        assert np.abs(adaptive).max() > 0
        assert np.isnan(divisor).all()


@pytest.mark.slow
def test_saved_checkpoints_can_be_asked_for_others(config, workdir):
    later = load_config(
        "lm",
        "smoke",
        data_dir=config.data_dir,
        **PAIR,
        probe__layers=(4,),
        probe__steps=(6,),
        probe__statistics=("r_diag",),
        probe__num_coordinates=3,
        probe_only="rows",
    )
    run(later, workdir)
    with (workdir / "probes" / "rows" / "geometry.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = {row["statistic"]: float(row["value"]) for row in rows}
    assert set(values) == {
        "r_diag_mean", "r_diag_median",
        "r_diag_num_entries", "r_diag_num_zero", "r_diag_num_nonfinite",
    }  # fmt: skip
    assert values["r_diag_num_entries"] == 3
    assert {row["layer_number"] for row in rows} == {"4"}
    assert {row["optimizer"] for row in rows} == {"sgdm", "adam"}
