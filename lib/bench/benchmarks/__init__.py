"""Benchmarks by the names that users type: `get_benchmark("lasot").sequences(paths)`.

To add one, register a `Benchmark` for a row of the data set catalogue: docs/adding_a_dataset.md.
"""

from lib.bench.benchmarks.benchmark import (
    BENCHMARKS,
    Benchmark,
    BenchmarkError,
    BenchmarkVideo,
    get_benchmark,
    register_benchmark,
)
from lib.bench.benchmarks.runs import axis_aligned_boxes
