"""A work directory as one self-contained HTML page."""

from qatspec.report.page import write_report

__all__ = ["write_report"]
