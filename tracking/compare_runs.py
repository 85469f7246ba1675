"""Where two result folders of tracking/test.py part, and how the scores move.

  cd output/test/tracking_results/ostrack
  python ../../../../tracking/compare_runs.py x/lasot x_001/lasot

Exit code: 0 they agree, 1 they part beyond the tolerance (or one lacks a sequence), 2 they cannot be compared.
"""

import argparse
import json
import sys
from pathlib import Path

import _bootstrap  # noqa: F401


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_a", type=Path, help="result folder (with <seq>.txt)")
    parser.add_argument("run_b", type=Path, help="the other one")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="in pixels (default: 0.001)")
    parser.add_argument("--all", action="store_true", help="list the sequences that agree, too")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from lib.bench import compare_runs

    console = Console()
    found = compare_runs(options.run_a, options.run_b, options.tolerance)
    parted = [p for p in found.sequences if p.parted]
    shown = found.sequences if options.all else parted
    if shown:
        table = Table("sequence", "parts at frame", "by (px)", "largest (px)", "smallest IoU", "rows")
        for p in shown:
            at = "-" if p.frame is None else str(p.frame)
            rows = str(p.rows[0]) if p.rows[0] == p.rows[1] else f"{p.rows[0]} / {p.rows[1]}"
            table.add_row(p.name, at, f"{p.first:.3g}", f"{p.largest:.3g}", f"{p.overlap:.4f}", rows)
        console.print(table)
    for label, names in (("only in A", found.only_a), ("only in B", found.only_b)):
        if names:
            console.print(f"{label}: {', '.join(names)}", highlight=False)
    for key, (a, b) in found.settings.items():
        console.print(f"{key}: {a} / {b}", highlight=False, markup=False)
    for label, a, b in score_moves(options.run_a, options.run_b):
        console.print(f"{label}: {a:.3f} -> {b:.3f} ({b - a:+.3f})", highlight=False)
    console.print(
        f"{len(parted)} of {len(found.sequences)} sequences part by more than {options.tolerance:g} px", highlight=False
    )
    return 0 if found.agree else 1


def score_moves(a: Path, b: Path) -> list[tuple[str, float, float]]:
    """(score, in A, in B) where both folders have scores of one metric with the same options; float boxes if any."""
    files = [folder / "scores.json" for folder in (a, b)]
    if not all(f.is_file() for f in files):
        return []
    one, two = (json.loads(f.read_text(encoding="utf-8")) for f in files)
    if any(one.get(key) != two.get(key) for key in ("metric", "metric_options")):
        return []
    mine, other = (s["float_boxes"] or s["headline"] for s in (one, two))
    return [(one["labels"][key], mine[key], other[key]) for key in mine]


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    try:
        return run(options)
    except (ValueError, OSError, LookupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
