"""What a config plans: grids of rates and steps; and bad plans."""

import io
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from hgeo.errors import InputError
from hgeo.experiment.plan import make_plans
from hgeo.experiment.tuning import final_loss, with_tuned_rates
from hgeo.records.rows import LossRow
from hgeo.records.run_records import RunRecords
from hgeo.tune import tune
from tests.experiments import rows, run
from tests.trajectories import SWITCH, least, losses_of, smoke


@pytest.mark.slow
def test_tuning_finds_the_best_rate_and_a_config_takes_it(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    with jax.numpy_dtype_promotion("standard"):
        tune(smoke(), "sgdm", [0.01, 0.2, 1e30], 0.2, tmp_path, console)
    result = json.loads((tmp_path / "tuning.json").read_text())
    assert result["optimizer"] == "sgdm"
    curve = {point["learning_rate"]: point["loss"] for point in result["curve"]}
    assert curve[1e30] is None
    assert result["best"] == min((0.01, 0.2), key=curve.get)
    assert "diverged" in console.file.getvalue()
    assert (tmp_path / "figures/tuning.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert "final training loss against learning rate" in page
    last = [r for r in rows(tmp_path, "losses") if r["optimizer"] == "sgdm_0_2"][-1:]
    np.testing.assert_allclose(curve[0.2], float(last[0]["loss"]), rtol=1e-6)

    config = smoke(sgdm__learning_rate_from=str(tmp_path / "tuning.json"))
    assert with_tuned_rates(config).sgdm.learning_rate == result["best"]
    assert with_tuned_rates(config).adam.learning_rate == config.adam.learning_rate
    with pytest.raises(InputError, match=r"adam\.learning_rate_from=.* is the tuning of 'sgdm'"):
        run(smoke(adam__learning_rate_from=str(tmp_path / "tuning.json")), tmp_path / "work")


def test_the_last_share_writes_the_tuning(tmp_path):
    rates, told = [0.01, 0.2], []
    for share in ("2/2", "1/2"):
        assert not (tmp_path / "tuning.json").exists()
        console = Console(file=io.StringIO(), width=200)
        with jax.numpy_dtype_promotion("standard"):
            tune(least(share=share), "sgdm", rates, 0.2, tmp_path, console)
        told.append(console.file.getvalue())
    assert "other shares have not finished: sgdm_0_01 0" in told[0]
    assert "diverged" not in told[0] + told[1]
    assert "no tuning.json yet" in told[0]
    curve = json.loads((tmp_path / "tuning.json").read_text())["curve"]
    for point, run_of_rate in zip(curve, ("sgdm_0_01", "sgdm_0_2"), strict=True):
        np.testing.assert_allclose(point["loss"], losses_of(tmp_path, run_of_rate)[5], rtol=1e-6)


def test_a_final_loss_is_of_the_last_steps_alone(tmp_path):
    records = RunRecords(tmp_path)
    records.losses = {step: LossRow("sgdm", 0, step, 0.0, 9.0 - step) for step in range(4)}
    assert final_loss([records], range(2, 4)) == 6.5
    with pytest.raises(ValueError, match="must have the losses of steps 3 to 5, and have not"):
        final_loss([records], range(3, 6))


AT_LOSS = {key: value for key, value in SWITCH.items() if key != "start_step"}

BAD = [
    ({"adam_after": SWITCH | {"start_run": "adam"}}, r"start_run must be one of the runs before"),
    ({"adam_after": SWITCH | {"start_step": 6}}, r"start_step must be .* 0 and steps=6, not 6"),
    ({"adam_after": SWITCH | {"start_step": "50%"}}, r"start_step must be a whole .* not '50%'"),
    ({"adam_after": SWITCH | {"start_step": 4.0}}, r"start_step must be a whole .* not 4\.0"),
    ({"adam_after": SWITCH | {"start_step": True}}, r"start_step must be a whole .* not True"),
    ({"adam_after": AT_LOSS | {"start_loss": "low"}}, r"start_loss must be a finite .* not 'low'"),
    ({"adam_after": AT_LOSS | {"start_loss": float("nan")}}, r"start_loss must be .* not nan"),
    ({"adam_after": SWITCH | {"start_loss": 3.0}}, r"must give one of start_step and start_loss"),
    ({"adam_after": SWITCH | {"optimizer_state": "kept"}}, r"optimizer_state must be one of"),
    ({"adam_after": SWITCH | {"optimizer": "adamm"}}, r"unknown optimizer 'adamm'"),
    ({"adam_after": SWITCH | {"beta": 1}}, r"config\.adam_after has \['beta'\], but takes only"),
    ({"adam_after": SWITCH, "share": "3/2"}, r"share must be 'i/n' with i from 1 to n"),
    ({"adam_after": SWITCH, "share": "half"}, r"share must be 'i/n'.*not 'half'"),
    ({"adam_after": SWITCH, "keep_checkpoints": "few"}, r"keep_checkpoints must be one of"),
    ({"adam_after": SWITCH, "same_loss__window": 0}, r"window must be .* at least 1, not 0"),
    ({"adam_after": SWITCH, "same_loss__every": 0}, r"every must be .* at least 1, not 0"),
    ({"adam_after": SWITCH, "same_loss__by": "luck"}, r"by must be one of .* not 'luck'"),
    ({"adam_after": SWITCH, "same_loss__of": "adam"}, r"of must be one of .* not 'adam'"),
    ({"adam_after": SWITCH, "same_loss__of": "adam_after"}, r"of='adam_after' must be the first"),
    (
        {"adam_after": SWITCH, "same_loss__of": "sgdm", "same_loss__losses": (1.0,)},
        r"losses=\(1.0,\) and same_loss.of='sgdm': give one",
    ),
    ({"adam_after": SWITCH, "sgdm__learning_rate_from": "/no"}, r"is not a tuning result"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda value: str(value)[-60:])
def test_bad_plans(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run(smoke(**changes, optimizers=("sgdm", "adam_after"), compare=()), tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("start_step", 4), ("start_loss", 3.0), ("optimizer_state", "carried")]
)
def test_keys_of_a_start_need_a_run_to_start_from(key, value):
    block = {"optimizer": "adam", "learning_rate": 1e-3, key: value}
    with pytest.raises(InputError, match=rf"config\.b\.{key}={value!r} needs config\.b\.start_run"):
        make_plans(smoke(b=block, optimizers=("sgdm", "b"), compare=()))


def test_a_block_may_spell_out_that_a_run_has_no_start():
    block = {"optimizer": "adam", "learning_rate": 1e-3, "start_run": "", "start_step": None}
    block |= {"start_loss": None, "optimizer_state": "fresh"}
    plans = make_plans(smoke(b=block, optimizers=("sgdm", "b"), compare=()))
    assert [plan.start_run for plan in plans] == ["", ""]


@pytest.mark.parametrize("between", [None, AT_LOSS | {"start_run": "b", "start_loss": 3.0}])
def test_a_run_cannot_start_before_the_run_that_it_starts_from(between):
    blocks = {"b": SWITCH} | ({} if between is None else {"m": between})
    blocks["c"] = SWITCH | {"start_run": list(blocks)[-1], "start_step": 3}
    config = smoke(**blocks, optimizers=("sgdm", *blocks), compare=())
    with pytest.raises(InputError, match=r"config\.c\.start_step must be at least 4, .* not 3"):
        make_plans(config)


@pytest.mark.parametrize("rates", [[0.1], [0.1, 0.1]])
def test_bad_grids(tmp_path, rates):
    with pytest.raises(InputError, match="a grid needs two or more learning rates"):
        tune(smoke(), "sgdm", rates, 0.1, tmp_path, Console(file=io.StringIO()))
    with pytest.raises(InputError, match=r"no config\.lion to tune"):
        tune(smoke(), "lion", [1.0, 2.0], 0.1, tmp_path, Console(file=io.StringIO()))
