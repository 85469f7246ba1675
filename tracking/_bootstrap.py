"""Puts the repository root on the import path, in place of this folder, so that `python tracking/x.py` finds `lib`."""

import sys
from pathlib import Path

_here = Path(__file__).resolve().parent
sys.path[:] = [str(_here.parent), *(p for p in sys.path if Path(p or ".").resolve() not in (_here, _here.parent))]
