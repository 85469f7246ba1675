"""The demo's outcome in one small JSON file: scores of the trackers and where the time went."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the summary to be written")
    parser.add_argument("--scores", nargs="+", default=[], metavar="LABEL=FOLDER", help="the first is what was trained")
    parser.add_argument("--seconds", nargs="+", default=[], metavar="PART=SECONDS")
    args = parser.parse_args()
    summary: dict[str, dict[str, float]] = {}
    for label, _, folder in (s.partition("=") for s in args.scores):
        headline = json.loads((Path(folder) / "scores.json").read_text())["headline"]
        summary[label] = {key: round(value / 100, 4) for key, value in headline.items()}
    summary["seconds"] = {part: float(value) for part, _, value in (s.partition("=") for s in args.seconds)}
    args.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{args.out.parent / 'report.html'} shows it all; {args.out} has the numbers")
    shown = ", ".join(f"{label} {next(iter(summary[label].values())):.3f}" for label in list(summary)[:-1])
    print(f"in all {sum(summary['seconds'].values()):.0f} s; success (area under the curve): {shown}")


if __name__ == "__main__":
    main()
