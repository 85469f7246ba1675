"""Collect photographs and cut-outs from installed packages for synthetic worlds nearer to life.

  pip install scikit-image && apt-get install endless-sky-data openclipart-png
  python scripts/collect_pictures.py --output output/pictures
  python tracking/make_synthetic_data.py --pictures output/pictures/train --output data/synthetic/photo

Without administrator's rights: `apt-get download` the packages, `dpkg -x FILE ROOT`, and `--root ROOT`. What is taken,
from whom and under which licence: synthetic/pictures.yaml.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import yaml

MANIFEST = Path(__file__).resolve().parents[1] / "synthetic" / "pictures.yaml"
PHOTO, CUTOUT = 720, 160
"""Longer side in pixels, at most."""


def find_files(name: str, source: dict[str, Any], root: Path) -> list[Path]:
    """Files of one source; FileNotFoundError naming the package where one is missing."""
    if "python_package" in source:
        package, _, inside = source["python_package"].partition("/")
        spec = find_spec(package)
        places = list(spec.submodule_search_locations or []) if spec else []
        folder = Path(places[0]) / inside if places else None
    else:
        folder = root / source["folder"]
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(f"pictures of {name} are not here (looked for {folder or package}): {source['obtain']}")
    if "below" in source:
        return sorted(f for part in source["below"].split() for f in (folder / part).rglob("*.png"))
    names = [n + source["ending"] for n in source["names"].split()] if "names" in source else source["pictures"]
    missing = [n for n in names if not (folder / n).exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder / missing[0]} is missing; {name} has other files than synthetic/pictures.yaml"
        )
    return [folder / n for n in names]


def shrink(picture: np.ndarray, side: int) -> np.ndarray:
    factor = side / max(picture.shape[:2])
    return picture if factor >= 1 else cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def usable_cutout(picture: np.ndarray | None) -> np.ndarray | None:
    """One object on transparent ground, of some detail and no extreme shape, cropped to it; else None."""
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
        return None
    rows, columns = (np.flatnonzero((picture[..., 3] > 127).any(axis=k)) for k in (1, 0))
    if len(rows) < 60 or len(columns) < 60:
        return None
    picture = shrink(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], CUTOUT)
    solid = (picture[..., 3] > 127).astype(np.uint8)
    if not solid.any():  # thin lines, gone by shrinking
        return None
    _, _, stats, _ = cv2.connectedComponentsWithStats(solid)
    high, wide = solid.shape
    whole = stats[1:, cv2.CC_STAT_AREA].max() > 0.9 * solid.sum()
    detailed = picture[..., :3][solid > 0].std(axis=0).mean() > 12
    fits = 0.25 < wide / high < 4 and 0.25 < solid.mean() < 0.92
    return picture if whole and detailed and fits else None


def collect(root: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Kind, name and picture of all that the manifest names."""
    for name, source in yaml.safe_load(MANIFEST.read_text(encoding="utf-8")).items():
        kind = source["kind"]
        for number, file in enumerate(find_files(name, source, root)):
            if kind == "photos":
                if (picture := cv2.imread(str(file), cv2.IMREAD_COLOR)) is None:
                    raise OSError(f"{file}: cannot be read as a picture")
                yield kind, f"{name}_{file.stem}.jpg", shrink(picture, PHOTO)
            elif (found := usable_cutout(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))) is not None:
                yield kind, f"{name}_{number:05d}_{file.stem}.png", found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder that gets train/ and test/")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where Debian packages are unpacked (default: /)")
    options = parser.parse_args(argv)
    counts: dict[str, int] = {}
    try:
        for kind, name, picture in collect(options.root):
            folder = options.output / ("test" if crc32(name.encode()) % 5 == 0 else "train") / kind
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name), picture)
            counts[kind] = counts.get(kind, 0) + 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: " + ", ".join(f"{n} {kind}" for kind, n in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
