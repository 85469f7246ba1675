"""A wheel has everything that tracking needs: configurations, the shipped network, lists and templates."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TRACK = """
import numpy as np, unitrack
assert unitrack.__file__.startswith({place!r}), unitrack.__file__
picture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
((box, score), last) = unitrack.track(unitrack.load(), [picture] * 2, (40, 30, 32, 28))
unitrack.load("ostrack", "synthetic_small")
print(unitrack.load("sdstrack", "synthetic_demo", untrained=True).spec.labels[0])
"""


@pytest.mark.slow
def test_a_wheel_tracks_without_the_checkout(tmp_path: Path) -> None:
    source, place, elsewhere = (tmp_path / name for name in ("source", "installed", "elsewhere"))
    for name in ("lib", "synthetic", "unitrack", "experiments", "pretrained"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.pth*"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import setuptools.build_meta as b; b.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=200)
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(place)
    missing = [
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".md" and path.parts[len(source.parts)] in ("lib", "synthetic", "unitrack")
        if not (place / path.relative_to(source)).is_file()
    ]
    assert not missing
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(place)}
    command = [sys.executable, "-c", TRACK.format(place=str(place))]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "sdstrack"
