"""Progress of long work over files, with ETA: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys

from tqdm import tqdm

LINE_SECONDS = 15.0


def show_progress(title: str, total: int = 0, unit: str = "files") -> tqdm[None]:
    """A meter on standard error: `with show_progress(...) as meter`, then `meter.update(n)` for n finished items.

    Args:
        title: Of the work.
        total: Number of items; 0 if not known yet, `meter.reset(total)` sets it.
        unit: Name of the items.
    """
    meter = {"total": total or None, "desc": title, "unit": f" {unit}"}
    if sys.stderr.isatty():
        return tqdm(**meter, leave=False, dynamic_ncols=True)
    line = "{desc}: {n_fmt} of {total_fmt}{unit}, ETA {remaining}\n"
    return tqdm(**meter, bar_format=line, mininterval=LINE_SECONDS, maxinterval=2 * LINE_SECONDS)
