"""The report of an experiment: records, tables, figures and one self-contained page."""

from hgeo.report.folder import write_report

__all__ = ["write_report"]
