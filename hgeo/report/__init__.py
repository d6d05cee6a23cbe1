"""The report of an experiment: records, tables, figures and one self-contained page."""

from hgeo.report.write import write_report

__all__ = ["write_report"]
