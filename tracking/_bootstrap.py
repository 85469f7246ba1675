"""Puts the repository root on the import path, so that `python tracking/x.py` finds `lib`.

This folder goes from the front of the path to its end: its `test.py` must hide nobody's `test`, yet processes that a
script spawns import the script again, and this module with it.
"""

import sys
from pathlib import Path

_here = Path(__file__).resolve().parent
sys.path[:] = [
    str(_here.parent),
    *(p for p in sys.path if Path(p or ".").resolve() not in (_here, _here.parent)),
    str(_here),
]

import lib  # noqa: E402, F401  # before torch: how its threads wait
from lib.command import expect_interrupts  # noqa: E402

expect_interrupts()
