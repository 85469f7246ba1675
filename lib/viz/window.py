"""A window on the screen: showing frames, drawing a box with the mouse. Everything else works without a screen."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np

from lib.data import Image

QUIT_KEYS = (ord("q"), 27)


class DisplayError(RuntimeError):
    """No window can be opened here."""


def require_display(purpose: str) -> None:
    """Raise DisplayError, in a sentence that names `purpose`, where no window can be opened.

    OpenCV's window library ends the whole program when it finds no screen, so this is asked first.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise DisplayError(f"{purpose} needs a screen, and there is none here (DISPLAY is not set)")
    if "NONE" in _gui_line():
        raise DisplayError(f"{purpose} needs windows, which this build of OpenCV (headless) does not have")


def _gui_line() -> str:
    lines = [line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    return lines[0] if lines else ""


def draw_box_with_mouse(image: Image, title: str = "draw a box, then press Enter") -> tuple[float, float, float, float]:
    """x, y, w, h of the box that the user draws over an RGB picture. Raises ValueError when none is drawn."""
    require_display("drawing a box with the mouse")
    x, y, w, h = cv2.selectROI(title, _bgr(image), showCrosshair=True)
    cv2.destroyWindow(title)
    if w <= 0 or h <= 0:
        raise ValueError("no box was drawn")
    return float(x), float(y), float(w), float(h)


def show(image: Image, title: str) -> bool:
    """Show an RGB picture; False once the user has pressed q or Escape."""
    cv2.imshow(title, _bgr(image))
    return cv2.waitKey(1) & 0xFF not in QUIT_KEYS


def _bgr(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), dtype=np.uint8)
