"""Compare two result folders of tracking/test.py: the first frame that differs in each sequence, and the scores.

  cd output/test/tracking_results/ostrack
  python ../../../../tracking/compare_runs.py x/lasot x_001/lasot

Exit code: 0 they agree, 1 they differ beyond the tolerance (or one lacks a sequence), 2 they cannot be compared.
"""

import argparse
import json
import sys
from pathlib import Path

import _bootstrap  # noqa: F401

from lib.command import run_command
from tracking._options import CommandParser


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = CommandParser(description=__doc__)
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
    different = [s for s in found.sequences if s.differs]
    shown = found.sequences if options.all else different
    if shown:
        table = Table("sequence", "differs at frame", "by (px)", "largest (px)", "smallest IoU", "rows")
        for s in shown:
            at = "-" if s.frame is None else str(s.frame)
            rows = str(s.rows[0]) if s.rows[0] == s.rows[1] else f"{s.rows[0]} / {s.rows[1]}"
            table.add_row(s.name, at, f"{s.first:.3g}", f"{s.largest:.3g}", f"{s.overlap:.4f}", rows)
        console.print(table)
    for label, names in (("only in A", found.only_a), ("only in B", found.only_b)):
        if names:
            console.print(f"{label}: {', '.join(names)}", highlight=False, markup=False)
    for key, (a, b) in found.settings.items():
        console.print(f"{key}: {a} / {b}", highlight=False, markup=False, soft_wrap=True)
    for folder in found.without_manifest:
        console.print(f"no manifest.json in {folder}: settings cannot be compared", markup=False, soft_wrap=True)
    for label, a, b in score_changes(options.run_a, options.run_b):
        console.print(f"{label}: {a:.3f} -> {b:.3f} ({b - a:+.3f})", highlight=False)
    console.print(
        f"{len(different)} of {len(found.sequences)} sequences differ by more than {options.tolerance:g} px",
        highlight=False,
    )
    return 0 if found.agree else 1


def score_changes(a: Path, b: Path) -> list[tuple[str, float, float]]:
    """Headline scores of two result folders, of the boxes with all digits where there are any.

    Args:
        a: First result folder.
        b: Second result folder.

    Returns:
        (label, score of A, score of B); empty unless both have scores of one metric with the same options.
    """
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
    return run_command(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
