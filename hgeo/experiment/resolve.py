"""The entry of an experiment: makes one `Resolved` of a config and a work folder."""

import functools
import json
from collections.abc import Sequence
from typing import Any

from hgeo.config import Config
from hgeo.experiment.learning_rate_schedule import LearningRateSchedule, make_factor
from hgeo.experiment.plan import RunPlan, make_plans
from hgeo.experiment.resolved import (
    EvaluationSettings,
    ProbeSettings,
    Resolved,
    SameLossSettings,
)
from hgeo.experiment.step_spec import are_known, as_steps
from hgeo.experiment.tuning import with_tuned_rates
from hgeo.experiment.validation import (
    check_choices,
    check_numbers,
    check_optimizers,
    check_steps,
    probe_options,
    to_share,
)
from hgeo.experiment.work_folder import WorkFolder
from hgeo.records.run_records import as_recorded
from hgeo.workloads.registry import make_workload

# The blocks of a config with steps that may be given as epochs or percentages.
WITH_STEPS = ("probe", "evaluation")


def resolve(config: Config, folder: WorkFolder | None = None) -> Resolved:
    """Checks a config and computes all that follows from it; later code does not read the config.

    Steps in epochs need the number of training examples. The folder has it if its runs have
    started; otherwise the data are read here. `read_workload` of the result makes model and data
    from the config's blocks of its workload.

    Args:
      config: a locked config, such as those in `configs/`.
      folder: the work folder, which must hold this experiment or nothing; `None`, none.

    Returns:
      The experiment.

    Raises:
      InputError: a key has a value that is not allowed, the folder holds another experiment's runs,
        or data that are needed can't be read.
    """
    config = with_tuned_rates(config)
    num_examples = None if folder is None else folder.num_examples()
    check_numbers(config)
    steps = _steps(config, num_examples)
    schedule = LearningRateSchedule(**config.learning_rate_schedule.to_dict())
    factor = make_factor(schedule, config.steps)
    plans = tuple(make_plans(config))
    check_optimizers(plans)
    check_choices(config, steps)
    if folder is not None:
        folder.check(config.to_dict(), any_probe=bool(config.probe_only))

    read_workload = functools.cache(lambda: make_workload(config))
    if num_examples is None:
        num_examples = read_workload().num_examples
    if not all(map(are_known, steps.values())):
        steps = _steps(config, num_examples)
        check_steps(config.steps, steps)
    return Resolved(
        workload_name=config.workload,
        read_workload=read_workload,
        num_examples=num_examples,
        seed=config.seed,
        plans=plans,
        compared_pairs=tuple((first, second) for first, second in config.compare),
        repeats=config.repeats,
        runs_together=config.runs_together,
        share=to_share(config.share),
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate_factor=factor,
        max_gradient_norm=config.max_gradient_norm,
        checkpoint_every=config.checkpoint_every,
        keep_all=config.keep_checkpoints == "all",
        probe=_probe(config, steps["probe"]),
        probe_only=config.probe_only,
        evaluation=EvaluationSettings(steps["evaluation"], config.evaluation.batch_size),
        same_loss=_same_loss(config, plans),
        settings_json=json.dumps(_settings(config, steps)),
    )


def _steps(config: Config, num_examples: int | None) -> dict[str, tuple[Any, ...]]:
    """When each block's measurements are due; epochs stay epochs until the data are known."""
    per_epoch = None if num_examples is None else num_examples // config.batch_size
    return {
        block: as_steps(f"{block}.steps", config[block].steps, config.steps, per_epoch)
        for block in WITH_STEPS
    }


def _probe(config: Config, steps: tuple[int, ...]) -> ProbeSettings:
    probe = config.probe
    return ProbeSettings(
        steps=steps,
        layers=tuple(probe.layers),
        num_coordinates=probe.num_coordinates,
        batch_size=probe.batch_size,
        seed=config.seed,
        statistics=tuple(probe.statistics),
        dropout=probe.dropout,
        options=probe_options(probe),
    )


def _same_loss(config: Config, plans: Sequence[RunPlan]) -> SameLossSettings:
    block = config.same_loss
    starts_at_loss = any(plan.start_loss is not None for plan in plans)
    is_watched = block.by == "probe" and (block.losses or block.of or starts_at_loss)
    return SameLossSettings(
        losses=tuple(map(as_recorded, block.losses)),
        reference=block.of,
        by=block.by,
        window=block.window,
        watched_steps=tuple(range(0, config.steps + 1, block.every)) if is_watched else (),
    )


def _settings(config: Config, steps: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    settings = config.to_dict()
    for block, resolved_steps in steps.items():
        settings[block]["steps"] = resolved_steps
    return settings
