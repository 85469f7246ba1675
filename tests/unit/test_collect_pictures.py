"""Collecting pictures for synthetic worlds: free licences, usable cut-outs, and a sentence where a package lacks."""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "collect_pictures.py"))


def test_every_picture_is_in_the_public_domain_or_under_cc0() -> None:
    for source in yaml.safe_load((ROOT / "synthetic" / "pictures.yaml").read_text()).values():
        rows = list(source["pictures"].values()) if "pictures" in source else [source]
        assert all(row["author"] for row in rows)
        assert all(row["licence"].startswith(("public domain", "CC0")) for row in rows)


def write(file: Path, picture: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), picture)


def object_on_glass(height: int, width: int, channels: int = 4) -> np.ndarray:
    """A cut-out of noise with transparent corners."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    noise[..., 3:] = cv2.ellipse(np.zeros((height, width), np.uint8), (width // 2, height // 2),
                                 (width // 2 - 4, height // 2 - 4), 0, 0, 360, 255, -1)[..., None]  # fmt: skip
    return noise


def test_pictures_of_installed_packages_are_shrunk_and_divided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = {
        "landscapes": {"folder": "land", "kind": "photos", "names": "a b c d e f g h", "ending": ".jpg", "obtain": "-"},
        "clips": {"folder": "art", "kind": "cutouts", "below": "animals", "obtain": "apt-get install clips"},
    }
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(sources))
    monkeypatch.setitem(SCRIPT["collect"].__globals__, "MANIFEST", manifest)
    for name in "abcdefgh":
        write(tmp_path / "land" / f"{name}.jpg", np.full((900, 1440, 3), 90, np.uint8))
    command = ["--root", str(tmp_path), "--output", str(tmp_path / "out")]
    assert SCRIPT["main"](command) == 1
    assert "pictures of clips are not here" in (said := capsys.readouterr().err)
    assert "apt-get install clips" in said

    animals = tmp_path / "art" / "animals"
    write(animals / "good.png", object_on_glass(320, 240))
    write(animals / "small.png", object_on_glass(40, 40))
    write(animals / "thin.png", object_on_glass(400, 70))
    lines = np.zeros((800, 800, 4), np.uint8)
    lines[::8, ::2] = 255
    write(animals / "lines.png", lines)
    write(animals / "flat.png", np.where(object_on_glass(200, 200)[..., 3:] > 0, 255, 0).astype(np.uint8).repeat(4, 2))
    write(animals / "opaque.png", object_on_glass(200, 200)[..., :3])
    assert SCRIPT["main"](command) == 0
    photos, cutouts = (list((tmp_path / "out").glob(f"*/{kind}/*")) for kind in ("photos", "cutouts"))
    assert len(photos) == 8
    assert {file.parent.parent.name for file in photos} == {"train", "test"}
    assert cv2.imread(str(photos[0])).shape == (450, 720, 3)
    assert [file.name.partition("_")[2][6:] for file in cutouts] == ["good.png"]
    assert cv2.imread(str(cutouts[0]), cv2.IMREAD_UNCHANGED).shape[0] == 160
