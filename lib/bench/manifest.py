"""What made a folder of results: tracker, configuration, weights, protocol, machine, time."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.bench.environment import package_version
from lib.files import write_text

MANIFEST = "manifest.json"
FORMAT = 1
RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Identity:
    """What decides the boxes: results with another identity are never mixed with these.

    values: plain JSON values, such as the hashes of configuration and weights and the protocol.
    """

    values: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Ten hex digits."""
        text = json.dumps(self.plain(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def plain(self) -> dict[str, Any]:
        """As JSON would give it back."""
        return dict(json.loads(json.dumps(dict(self.values))))

    def difference(self, old: Mapping[str, Any]) -> str:
        """``"weights, protocol"``: the names of what is not as in `old`."""
        mine = self.plain()
        return ", ".join(k.replace("_", " ") for k in sorted({*mine, *old}) if mine.get(k) != old.get(k))


def versions() -> dict[str, str]:
    """Python, and the libraries that decide numbers."""
    found = {"python": platform.python_version()}
    for name in ("torch", "torchvision", "timm", "numpy", "opencv-python", "opencv-python-headless", *RUNTIMES):
        version = package_version(name)
        if version is not None:
            found[name] = version
    return found


def host() -> dict[str, Any]:
    """The machine."""
    return {"name": socket.gethostname(), "system": platform.platform(), "cpus": os.cpu_count()}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a result folder, or None where there is none; raises ValueError for one that is not JSON."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return dict(json.loads(text))
    except ValueError:
        raise ValueError(f"{path}: not a manifest (expected JSON)") from None


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write the manifest whole or not at all."""
    write_text(folder / MANIFEST, json.dumps({"format": FORMAT, **values}, indent=1) + "\n")
