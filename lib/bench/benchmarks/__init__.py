"""Benchmarks by the names that users type: `get_benchmark("lasot").sequences(paths)`."""

from lib.bench.benchmarks import depth, event, got10k, language, lasot, listed, synthetic, tables, thermal, trackingnet
from lib.bench.benchmarks.benchmark import (
    BENCHMARKS,
    Benchmark,
    BenchmarkError,
    BenchmarkSequence,
    Reader,
    SequenceError,
    get_benchmark,
)
from lib.bench.benchmarks.thermal import GtotDataset
