"""Self-contained HTML pages from jinja2 templates, and the frame player that they show.

Style, script and images are inside the one file and nothing is loaded from elsewhere; a page follows the reader's light
or dark theme and prints. `assets/page.html` is the layout that templates extend, `assets/parts.html` has tables,
figures and players as macros.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lib.config import flat_items
from lib.data import Video, encode_picture
from lib.viz.draw import draw_frame, shrink
from lib.viz.video import Track

ASSETS = Path(__file__).parent / "assets"
JPEG_QUALITY = 70
MAX_FRAMES = 60
"""Frames of a player."""
PLAYER_SIZES = (400, 320, 256, 200, 160)
"""Longest side of a player's images in pixels; the first one that fits the budget is taken."""


def render_page(template: Path, context: Mapping[str, Any]) -> str:
    """The text of a page or of a report for a terminal.

    Args:
        template: A text file, or an HTML file that extends `page.html`. Everything that goes into HTML is escaped
            (autoescape), script blocks included (`tojson`).
        context: Variables of the template.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, ASSETS]),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["slug"] = lambda title: re.sub(r"\W+", "-", title.lower()).strip("-")
    environment.filters["flat"] = flat_texts
    environment.globals["asset"] = lambda name: Markup((ASSETS / name).read_text(encoding="utf-8"))
    return environment.get_template(template.name).render(context)


@dataclass(frozen=True)
class Player:
    """Frames that can be played and scrubbed in a page, with boxes that can be switched on and off.

    Attributes:
        title: Heading.
        size_wh: Size of the shown images in pixels.
        frames: JPEG bytes.
        numbers: Number of each frame in the video.
        tracks: Boxes in pixels of the shown images, one row per shown frame. The first one is drawn above the others.
        note: Line below the heading.
        start: Position among the shown frames that the player opens at.
        fps: Frames per second when played.
    """

    title: str
    size_wh: tuple[int, int]
    frames: Sequence[bytes]
    numbers: Sequence[int]
    tracks: Sequence[Track]
    note: str = ""
    start: int = 0
    fps: float = 10.0

    @classmethod
    def of_video(cls, video: Video, tracks: Sequence[Track], budget: int, note: str = "", start: int = 0) -> Player:
        """A player of some frames of a video, evenly chosen.

        Args:
            video: RGB-X shows both images side by side.
            tracks: Boxes in image pixels, one row per frame of the video.
            budget: Bytes that the images may take as JPEG; they shrink to fit.
            note: Line below the heading.
            start: Frame that the player opens at; it is among the chosen ones.
        """
        chosen = np.linspace(0, len(video) - 1, min(MAX_FRAMES, len(video))).round().astype(int)
        chosen = np.union1d(chosen, [start])
        images, scale = [], 1.0
        for i in chosen:
            whole = draw_frame(video.read_frame(int(i)))
            images.append(shrink(whole, PLAYER_SIZES[0]))
            scale = images[-1].shape[1] / whole.shape[1]
        for longest in PLAYER_SIZES:
            shown = [shrink(image, longest) for image in images]
            frames = [encode_picture(image, JPEG_QUALITY) for image in shown]
            if sum(map(len, frames)) <= budget:
                break
        scale *= shown[0].shape[1] / images[0].shape[1]
        scaled = [
            replace(t, boxes_xywh=t.boxes_xywh[chosen] * scale, values=None if t.values is None else t.values[chosen])
            for t in tracks
        ]
        size = (shown[0].shape[1], shown[0].shape[0])
        return cls(video.name, size, frames, chosen.tolist(), scaled, note, int(np.searchsorted(chosen, start)))

    def data(self) -> dict[str, Any]:
        """Plain types for the page's script: images in base64, None for boxes and values that are NaN."""
        tracks = []
        for t in self.tracks:
            boxes = [None if np.isnan(b).any() else [round(float(v), 1) for v in b] for b in t.boxes_xywh]
            values = None if t.values is None else [None if np.isnan(v) else round(float(v), 3) for v in t.values]
            tracks.append({"name": t.name, "colour": t.colour, "dashed": t.dashed, "boxes": boxes, "values": values})
        frames = [base64.b64encode(frame).decode() for frame in self.frames]
        numbers = list(map(int, self.numbers))
        seen = {"size": list(self.size_wh), "fps": self.fps, "start": self.start, "numbers": numbers}
        return {**seen, "frames": frames, "tracks": tracks}


def flat_texts(entries: Mapping[str, object]) -> dict[str, str]:
    """Nested mappings as texts on one level: {"a": {"b": 1, "c": None}} -> {"a.b": "1", "a.c": ""}."""
    return {key: "" if value is None else str(value) for key, value in flat_items(entries).items()}
