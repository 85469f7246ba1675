"""Results of the data check as a table and a list of problems."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lib.data.check import CheckResult

LINES_SHOWN = 5
LEAST_WIDTH = 10


def print_results(
    results: Sequence[CheckResult], console: Console, *, partial: bool = False, all_lines: bool = False
) -> None:
    """Print one row per part; below, what is missing or wrong, where it was looked for, and the expected layout.

    Args:
        results: One for each part.
        console: Where to print.
        partial: As for `CheckResult.is_wrong`.
        all_lines: Print every problem instead of the first few.
    """
    heads = ("data set", "state", "sequences", "!= rows", "broken")
    rows: list[tuple[str, ...]] = []
    for result in results:
        state = "wrong" if result.is_wrong(partial) else "ok"
        broken = f"{result.broken} of {result.pictures}" if result.pictures else "-"
        counts = (f"{result.found} / {result.expected}", str(result.mismatched), broken)
        rows.append((result.part.name, state, *(counts if result.there else ("-", "-", "-"))))
    table = Table(box=None, pad_edge=False)
    widths = [max(len(text) for text in (head, *(row[i] for row in rows))) + 1 for i, head in enumerate(heads)]
    for i, (head, width) in enumerate(zip(heads, widths, strict=True)):
        table.add_column(head, min_width=width, no_wrap=True, justify="left" if i < 2 else "right")
    # Shortened here: rich would drop whole columns for a long last one.
    left = max(LEAST_WIDTH, console.width - sum(widths) - 2 * len(widths))
    table.add_column("first missing or wrong"[:left], no_wrap=True)
    for result, row in zip(results, rows, strict=True):
        colour = "red" if result.is_wrong(partial) else "green"
        # Paths are shown as seen from the data set folder, without the alternatives that were tried.
        trouble = result.first_trouble(partial).replace(f"{result.place}/", "").partition(" (nor ")[0] or "-"
        trouble = escape(trouble if len(trouble) <= left else f"{trouble[: left - 1]}…")
        table.add_row(escape(row[0]), f"[{colour}]{row[1]}[/{colour}]", *row[2:], trouble)
    console.print(table)
    console.print("!= rows: sequences whose pictures and annotation rows differ in number", style="dim", soft_wrap=True)
    for result in results:
        if result.first_trouble(partial):
            _print_lines(result, console, partial, all_lines)


def _print_lines(result: CheckResult, console: Console, partial: bool, all_lines: bool) -> None:
    """Print the place and layout of one part, and the first lines of its problems, or all of them."""
    console.print(f"\n[bold]{escape(result.part.name)}[/bold] in {escape(str(result.place))}", soft_wrap=True)
    console.print(f"  expected layout: {escape(result.part.spec.layout)}", highlight=False, soft_wrap=True)
    missing = result.missing_files
    if partial and result.found and not all_lines and len(missing) > 1:
        missing = [f"{result.missing} sequences are not there, which --partial accepts (--all names them)"]
    for lines in (missing, result.problems):
        shown = lines if all_lines else lines[:LINES_SHOWN]
        for line in shown:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        if len(shown) < len(lines):
            console.print(f"  ... and {len(lines) - len(shown)} more like this (--all shows them)", soft_wrap=True)
