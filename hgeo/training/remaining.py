"""What is left to do of a run, from its timeline, its records and the steps that are saved."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping

from hgeo.records.run_records import RunRecords
from hgeo.training.timeline import Timeline

# Steps at which each kind of measurement is due.
Due = Mapping[str, Collection[int]]


@dataclasses.dataclass(frozen=True)
class Remaining:
    """What is left to do of a run.

    Attributes:
      updates: those that training makes, including those that only recreate a checkpoint.
      measurements: how many, by kind.
      searches: losses whose iterate has not been searched for.
      is_trained: whether all losses are recorded and the last state is saved, or it diverged.
    """

    updates: int = 0
    measurements: Counter[str] = dataclasses.field(default_factory=Counter)
    searches: int = 0
    is_trained: bool = True

    @property
    def is_nothing(self) -> bool:
        """Whether the records are complete and the last state is there.

        Checkpoints in between may be absent, because nothing reads them any more.
        """
        return self.is_trained and not self.measurements.total() and not self.searches

    @property
    def counts(self) -> Counter[str]:
        """Updates (`"step"`) and measurements by their kind; a search ends in a probe at most."""
        return Counter(step=self.updates, probe=self.searches) + self.measurements


def what_is_left(
    timeline: Timeline, due: Due, records: RunRecords, saved: Collection[int], keep_all: bool
) -> Remaining:
    """What is left to do of a run; nothing of an archived one that has all records.

    Args:
      timeline: of the run.
      due: steps of each kind of measurement; those outside the run are left out.
      records: what it has recorded.
      saved: the steps that have a checkpoint.
      keep_all: whether checkpoints at which nothing was measured are kept.
    """
    whole = trusted_steps(timeline, records, saved)
    end, measurements = records.diverged_at, Counter()
    for kind, steps in due.items():
        reachable = {s for s in steps if s >= timeline.start and (end is None or s <= end)}
        measurements[kind] = len(reachable - records.measured(kind).keys())
    updates, last = 0, timeline.start
    for step in events_left(timeline, due, records, whole, keep_all):
        updates += 0 if step in whole else step - last
        last = step
    recorded = len(records.losses) == timeline.steps - timeline.start
    is_kept = timeline.steps in saved or is_whole_archive(timeline, due, records)
    is_trained = end is not None or (recorded and is_kept)
    return Remaining(updates, measurements, is_trained=is_trained)


def is_whole_archive(timeline: Timeline, due: Due, records: RunRecords) -> bool:
    """Whether an archived run has all records, so that no checkpoint is needed."""
    end = records.diverged_at
    recorded = len(records.losses) == timeline.steps - timeline.start
    reachable = lambda step: step >= timeline.start and (end is None or step <= end)
    return (
        records.is_archived
        and (end is not None or recorded)
        and all(
            step in records.measured(kind)
            for kind, steps in due.items()
            for step in steps
            if reachable(step)
        )
    )


def trusted_steps(timeline: Timeline, records: RunRecords, saved: Collection[int]) -> set[int]:
    """The saved steps before which the records have all losses.

    Where losses are absent (a file of records was cut short), their updates are repeated.
    """
    steps = range(timeline.start, timeline.steps)
    lacking = next((step for step in steps if step not in records.losses), timeline.steps)
    return {step for step in saved if step <= lacking}


def reachable_events(timeline: Timeline, records: RunRecords) -> list[int]:
    """Steps with a checkpoint, up to where the run diverged."""
    end = records.diverged_at
    return [step for step in timeline.events if end is None or step <= end]


def events_left(
    timeline: Timeline, due: Due, records: RunRecords, saved: Collection[int], keep_all: bool
) -> list[int]:
    """The reachable events, without those that are over and whose checkpoint was dropped."""
    if is_whole_archive(timeline, due, records):
        return []
    last, kept = max(saved, default=-1), timeline.kept(keep_all)

    def is_over(step):
        is_due = any(
            step in steps and step not in records.measured(kind) for kind, steps in due.items()
        )
        return step < last and step not in saved and not is_due and step not in kept

    return [step for step in reachable_events(timeline, records) if not is_over(step)]
