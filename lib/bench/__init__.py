"""Evaluation: benchmarks, the runner and its workers, metrics, reports, and tools that measure or show a tracker."""
