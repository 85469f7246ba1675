"""Puts the repository root on the import path, so that `python tracking/x.py` finds `lib`.

This folder goes from the front of the path to its end: its `test.py` must hide nobody's `test`, yet processes that a
script spawns import the script again, and this module with it.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

try:
    _here = Path(__file__).resolve().parent
    Path.cwd()
except FileNotFoundError:
    print("error: the working directory has been removed; go to another one", file=sys.stderr)
    sys.exit(2)
sys.path[:] = [
    str(_here.parent),
    *(p for p in sys.path if Path(p or ".").resolve() not in (_here, _here.parent)),
    str(_here),
]

_missing = [name for name in ("cv2", "numpy", "torch", "yaml") if find_spec(name) is None]
if sys.version_info < (3, 10) or _missing:
    _found = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    _found += f" without {', '.join(_missing)}" if _missing else ""
    print(
        f"error: {sys.executable} is {_found}; Python 3.10 or newer with this project's packages is needed: "
        "`bash install.sh` installs them, `source .venv/bin/activate` takes them",
        file=sys.stderr,
    )
    sys.exit(2)

import lib  # noqa: E402, F401  # before torch: how its threads wait
from lib.command import expect_interrupts, prepare_streams  # noqa: E402

prepare_streams()
expect_interrupts()
