"""What is measured along a run: the probe's loss, the held-out metrics, the curvature."""

from hgeo.experiment.run_timeline import due_steps
from hgeo.experiment.shared_resources import SharedResources
from hgeo.measure.optimizer_view import OptimizerView
from hgeo.training.run import ScheduledMeasurement


def scheduled_measurements(
    resources: SharedResources, view: OptimizerView
) -> tuple[ScheduledMeasurement, ...]:
    """The measurements of a run; `view` is what statistics use of its optimizer."""

    def watched_loss(state):
        return [(resources.probe.loss(state.variables),)], "", {}

    def evaluation(state):
        metrics = resources.evaluation(state.variables)
        text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        return list(metrics.items()), f"held out: {text}", {}

    def probe(state):
        loss, statistics, arrays = resources.probe(state.variables, state.optimizer, view)
        values = [(loss, *value) for value in statistics]
        return values, f"loss on the probe batch {loss:.4f}", arrays

    measures = {"loss": watched_loss, "evaluation": evaluation, "probe": probe}
    return tuple(
        ScheduledMeasurement(kind, steps, measures[kind])
        for kind, steps in due_steps(resources.resolved).items()
    )
