"""Comparing trackers: tables, significance, plots, and one self-contained HTML page."""

from lib.bench.report.comparison import TrackerRun, by_attribute, compare, on_common_sequences, size_bias
from lib.bench.report.figures import attribute_figure, training_lines
from lib.bench.report.report import TEMPLATES, build_report, export, worst_and_best
from lib.bench.report.tables import comparison_tables, write_tables
