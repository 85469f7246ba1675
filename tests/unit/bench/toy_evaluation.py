"""A command that tracks the toy benchmark below a folder: TMP PROCESSES BATCH RUN_ID."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

from lib.command import run_command  # noqa: E402

if __name__ == "__main__":

    def run() -> int:
        from toy_tracker import ToySpec, paths_at

        from lib.bench import EvalJob, run_tests
        from lib.bench.benchmarks import get_benchmark

        tmp, processes, batch, run_id = Path(sys.argv[1]), *map(int, sys.argv[2:5])
        spec = ToySpec(log=tmp / "log")
        benchmark = get_benchmark("synthetic")
        job = EvalJob(spec, benchmark, paths_at(tmp), processes=processes, batch=batch, run_id=run_id)
        return run_tests([job], __file__, sys.argv[1:])

    sys.exit(run_command(run, interrupted="stopped"))
