"""Progress of long work, with ETA: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys

from tqdm import tqdm

LINE_SECONDS = 15.0


class _Lines(tqdm):
    """A meter whose states are lines; none before the first item, nor in work that is done sooner than one is due."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if self.n and msg is None:
            known = " of {total_fmt}{unit}, ETA {remaining}" if self.total else "{unit}"
            self.bar_format = "{desc}: {n_fmt}" + known
            print(self, file=sys.stderr, flush=True)
        return True


def show_progress(title: str, total: int | None = None, unit: str = "files") -> tqdm[None]:
    """A meter on standard error: `with show_progress(...) as meter`, then `meter.update(n)` for n finished items.

    Args:
        title: Of the work.
        total: Number of items; None if not known yet, `meter.reset(total)` sets it.
        unit: Name of the items.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, desc=title, unit=f" {unit}", leave=False, dynamic_ncols=True)
    times = {"mininterval": LINE_SECONDS, "maxinterval": 2 * LINE_SECONDS, "delay": LINE_SECONDS}
    return _Lines(total=total, desc=title, unit=f" {unit}", leave=False, **times)
