"""The report of an experiment: records, tables, figures and one self-contained page."""

from hgeo.report.summary import ExperimentSummary
from hgeo.report.write import write_report

__all__ = ["ExperimentSummary", "write_report"]
