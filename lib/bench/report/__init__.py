"""Comparing trackers: tables, significance, plots, and one self-contained HTML page."""

from lib.bench.report.report import build_report
from lib.bench.report.runs import TrackerRun

__all__ = ["TrackerRun", "build_report"]
