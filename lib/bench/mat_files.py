"""The boxes in MATLAB files, read in a process of its own, since scipy's reader can crash on a damaged file.

    python -I mat_files.py OUT        paths on standard input, separated by zero bytes -> OUT/0.npz, OUT/1.npz, ...

An array of an .npz is named "boxes" or "fps" and the variable's and fields' names, separated by "/". Run as a script,
it imports nothing of this library.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_mat(path: Path) -> dict[str, NDArray[np.float64]]:
    """The matrices of 4 or 8 columns in a MATLAB file, and the speed in OTB's structs with `res` and `fps`.

    Args:
        path: File of MATLAB's formats 4 to 7.

    Returns:
        "boxes/<names>" -> [N, 4] or [N, 8] rows; "fps/<names>" -> frames per second. Of a cell array of several runs,
        as of OTB's temporal and spatial robustness, the first one.
    """
    from scipy.io import loadmat

    found: dict[str, NDArray[np.float64]] = {}

    def walk(value: Any, names: str) -> None:
        if isinstance(value, dict) and "res" in value:
            walk(value["res"], names)
            if isinstance(speed := value.get("fps"), (int, float)) and speed > 0:
                found[f"fps{names}"] = np.array(float(speed))
        elif isinstance(value, dict):
            for key in (key for key in value if not key.startswith("__")):
                walk(value[key], f"{names}/{key}")
        elif isinstance(value, list) or (isinstance(value, np.ndarray) and value.dtype == object and value.ndim):
            if len(value):
                walk(value[0], names)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.shape[-1:] in ((4,), (8,)):
            found[f"boxes{names}"] = value.reshape(-1, value.shape[-1]).astype(np.float64)

    walk(loadmat(path, simplify_cells=True), "")
    return found


def main() -> int:
    for i, name in enumerate(sys.stdin.read().split("\0")):
        try:
            arrays = read_mat(Path(name))
        except NotImplementedError:
            print("MATLAB file of format 7.3; save it with -v7", file=sys.stderr)
            return 1
        except Exception as error:  # scipy raises many kinds for a damaged file
            print(f"not a MATLAB file ({type(error).__name__}: {error})".splitlines()[0], file=sys.stderr)
            return 1
        np.savez(Path(sys.argv[1]) / f"{i}.npz", **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
