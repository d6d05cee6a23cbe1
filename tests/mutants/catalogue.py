"""All mutants, by area."""

from tests.mutants import engine, library, paper, probes, report, statistics, training

AREAS = (engine, probes, statistics, library, training, report, paper)
MUTANTS = tuple(mutant for area in AREAS for mutant in area.MUTANTS)
