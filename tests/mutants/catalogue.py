"""All mutants, by area."""

from tests.mutants import (
    engine,
    library,
    paper,
    probes,
    report,
    shards,
    statistics,
    training,
)

AREAS = (engine, probes, shards, statistics, library, training, report, paper)
MUTANTS = tuple(mutant for area in AREAS for mutant in area.MUTANTS)
