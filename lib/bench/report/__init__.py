"""Comparing trackers: tables, significance, plots, and one self-contained HTML page."""

from lib.bench.report.export import comparison_tables, export
from lib.bench.report.players import worst_and_best
from lib.bench.report.report import build_report
from lib.bench.report.robustness import by_kind, robustness_table, write_robustness
from lib.bench.report.runs import TrackerRun, by_attribute, on_common_sequences
from lib.bench.report.significance import compare
from lib.bench.report.training_log import training_lines
