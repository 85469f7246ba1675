"""The demo's outcome in one small JSON file: scores of the trackers and where the time went."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

FOLDERS = {
    "trained": "ostrack/synthetic_demo/synthetic",
    "untrained": "ostrack/synthetic_demo_untrained/synthetic",
    "static": "reference/static/synthetic",
    "classical": "reference/classical/synthetic",
    "shipped": "ostrack/synthetic_small/synthetic",
}
KEYS = ("auc", "precision", "norm_precision")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="folder with the trackers' results")
    parser.add_argument("out", type=Path, help="the summary to be written")
    parser.add_argument("--seconds", nargs="+", default=[], metavar="PART=SECONDS")
    args = parser.parse_args()
    summary: dict[str, dict[str, float]] = {}
    for name, folder in FOLDERS.items():
        headline = json.loads((args.results / folder / "scores.json").read_text())["headline"]
        summary[name] = {key: round(headline[key] / 100, 4) for key in KEYS}
    summary["seconds"] = {part: float(value) for part, _, value in (s.partition("=") for s in args.seconds)}
    args.out.write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{args.out.parent / 'report.html'} shows it all; {args.out} has the numbers")
    total, auc = sum(summary["seconds"].values()), summary["trained"]["auc"]
    print(f"in all {total:.0f} s; success AUC of the trained tracker {auc:.3f}")


if __name__ == "__main__":
    main()
