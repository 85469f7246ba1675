"""The measured figures as Markdown, written between two marks of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agreement import Agreement

if TYPE_CHECKING:
    from inference import Line

BEGIN, END = "<!-- measured: benchmarks/inference.py --page writes this -->", "<!-- end of measured -->"


def write_into(page: Path, lines: Sequence[Line], agreements: Sequence[Agreement], machine: str) -> None:
    """Replace what is between the marks. Raises ValueError for a page without them."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: the marks {BEGIN} and {END} were expected")
    parts = [machine, *(_speed(lines, threads) for threads in sorted({r.threads for r in lines}))]
    parts += [_deviations(agreements)] if agreements else []
    page.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}", encoding="utf-8")


def _speed(lines: Sequence[Line], threads: int) -> str:
    rows = [r for r in lines if r.threads == threads]
    sizes = list(dict.fromkeys(r.size for r in rows))
    ways = list(dict.fromkeys(r.way for r in rows))
    found = {(r.size, r.way): r for r in rows}
    out = [
        f"Frames per second of tracker steps (times the plain implementation), {threads} "
        f"thread{'s' if threads > 1 else ''}:",
        "",
        f"| | {' | '.join(sizes)} | operations per frame |",
        "|---|" + "---:|" * (len(sizes) + 1),
    ]
    for way in ways:
        cells = [_cell(found.get((size, way))) for size in sizes]
        counts = list(dict.fromkeys(str(r.operations) for r in rows if r.way == way and r.operations))
        out.append(f"| {way} | {' | '.join(cells)} | {', '.join(counts)} |")
    limits = [found[size, "official"] for size in sizes if (size, "official") in found]
    if limits:
        reached = (f"{r.size}: {r.rate:.0f} of {r.limit:.0f} and {r.packed_limit:.0f}" for r in limits)
        out += [
            "",
            "`official` in GMAC/s, of a large float32 product by PyTorch and with packed weights in the same run: "
            + "; ".join(reached)
            + ".",
        ]
    return "\n".join(out)


def _cell(line: Line | None) -> str:
    return "" if line is None else f"{1e3 / line.step_ms:.1f} ({line.times_plain:.1f}x)"


def _deviations(rows: Sequence[Agreement]) -> str:
    out = [
        f"Against `official`, the shipped network on {rows[0].sequences} synthetic sequences ({rows[0].frames} "
        "frames). One step: every frame starts where `official` was. A run: each follows its own boxes, so that a "
        "sequence in which the target is nearly lost may end elsewhere, either way; behind ± is the movement's "
        "standard error over the sequences.",
        "",
        "| | pixels, one step (median) | overlap, one step | overlap, a run | success, a run | moved |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    out += [
        f"| {r.way} | {r.step_pixels:.3f} | {r.step_overlap:.4f} | {r.run_overlap:.4f} | {r.success:.2f} | "
        f"{r.moved:+.2f} ± {r.moved_error:.2f} |"
        for r in rows
    ]
    return "\n".join(out)
