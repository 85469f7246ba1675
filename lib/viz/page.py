"""A self-contained HTML page: sections, sortable tables, figures, pictures and a player for frames with boxes.

Everything is inside the one file (style, script, pictures as base64), nothing is loaded from elsewhere; it follows the
reader's light or dark theme and prints.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Image
from lib.viz.table import Cell, Table

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class Track:
    """A box per shown frame. boxes_xywh: [F, 4] in pixels of the shown frames, NaN for no box.

    values: [F] a number per frame for the strip below the picture (overlap with the true box), or None.
    The first track of a player is drawn above the others.
    """

    name: str
    colour: str
    boxes_xywh: NDArray[np.float64]
    values: NDArray[np.float64] | None = None
    dashed: bool = False


@dataclass(frozen=True)
class Player:
    """Frames (JPEG bytes) that can be played and scrubbed, with boxes that can be switched on and off.

    size_wh: of the shown frames. numbers: what to print for each frame (its number in the sequence).
    """

    title: str
    size_wh: tuple[int, int]
    frames: Sequence[bytes]
    numbers: Sequence[int]
    tracks: Sequence[Track]
    note: str = ""
    fps: float = 10.0


@dataclass
class Page:
    """Collects content in order; `html()` or `write(path)` gives the page."""

    title: str
    subtitle: str = ""
    _parts: list[str] = field(default_factory=list)
    _sections: list[tuple[str, str]] = field(default_factory=list)
    _open: bool = False

    def section(self, title: str, note: str = "") -> None:
        """Start a section; it appears in the navigation."""
        self._close()
        name = re.sub(r"\W+", "-", title.lower()).strip("-")
        self._sections.append((name, title))
        self._parts.append(f'<section id="{name}"><h2>{html.escape(title)}</h2>')
        self._open = True
        if note:
            self.text(note)

    def text(self, text: str) -> None:
        """A paragraph of plain text."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def cards(self, cards: Sequence[tuple[str, str, str]]) -> None:
        """Large figures in a row: (label, value, remark)."""
        inner = "".join(
            '<div class="card"><span>{}</span><b>{}</b><small>{}</small></div>'.format(*map(html.escape, card))
            for card in cards
        )
        self._parts.append(f'<div class="cards">{inner}</div>')

    def table(self, table: Table, colours: Mapping[str, str] | None = None, tall: bool = False) -> None:
        """A table that is sorted by a click on a column's head; `colours` by the text of the first column."""
        self._parts.append(table_html(table, colours or {}, tall))

    def figures(self, svgs: Sequence[str]) -> None:
        """SVG elements in a row that wraps."""
        inner = "".join(f"<figure>{svg}</figure>" for svg in svgs)
        self._parts.append(f'<div class="figures">{inner}</div>')

    def image(self, image: Image, alt: str, quality: int = 85) -> None:
        """An RGB picture."""
        data = base64.b64encode(jpeg(image, quality)).decode()
        self._parts.append(f'<figure><img alt="{html.escape(alt)}" src="data:image/jpeg;base64,{data}"></figure>')

    def players(self, players: Sequence[Player]) -> None:
        """Frame players in a row that wraps."""
        self._parts.append('<div class="players">' + "".join(map(player_html, players)) + "</div>")

    def details(self, summary: str, entries: Mapping[str, object]) -> None:
        """A folded list of names and values; nested mappings become dotted names."""
        rows = "".join(
            f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in flat_items(entries).items()
        )
        self._parts.append(
            f'<details><summary>{html.escape(summary)}</summary><table class="facts">{rows}</table></details>'
        )

    def html(self) -> str:
        """The whole page."""
        self._close()
        links = "".join(f'<a href="#{name}">{html.escape(title)}</a>' for name, title in self._sections)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_asset('page.css')}</style></head><body>"
            f"<header><h1>{html.escape(self.title)}</h1><p>{html.escape(self.subtitle)}</p><nav>{links}</nav></header>"
            f"<main>{''.join(self._parts)}</main><script>{_asset('page.js')}</script></body></html>\n"
        )

    def _close(self) -> None:
        if self._open:
            self._parts.append("</section>")
            self._open = False


def jpeg(image: Image, quality: int = 70) -> bytes:
    """An RGB picture as JPEG bytes."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {image.shape}")
    return data.tobytes()


def table_html(table: Table, colours: Mapping[str, str], tall: bool = False) -> str:
    """The table element; the best entries of each column that has a best are marked."""
    head = "".join(_head_html(table, j) for j in range(len(table.columns)))
    best = table.best()
    body = []
    for i, row in enumerate(table.rows):
        cells = []
        for j, value in enumerate(row):
            swatch = f'<i style="background:{colours[str(value)]}"></i>' if j == 0 and str(value) in colours else ""
            kind = _cell_class(value, i in best[j])
            order = f' data-v="{value!r}"' if isinstance(value, (int, float)) else ""
            cells.append(f"<td{kind}{order}>{swatch}{html.escape(table.columns[j].show(value))}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<caption>{html.escape(table.title)}</caption>" if table.title else ""
    return (
        f'<div class="scroll{" tall" if tall else ""}"><table class="sortable">{caption}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _head_html(table: Table, j: int) -> str:
    column = table.columns[j]
    numbers = any(isinstance(row[j], (int, float)) for row in table.rows)
    return (
        f'<th scope="col"{_cell_class(0 if numbers else "", False)} title="{html.escape(column.note)}">'
        f'<button type="button">{html.escape(column.title)}</button></th>'
    )


def _cell_class(value: Cell, best: bool) -> str:
    names = (["num"] if isinstance(value, (int, float)) else []) + (["best"] if best else [])
    return f' class="{" ".join(names)}"' if names else ""


def player_html(player: Player) -> str:
    """The player element: its data as JSON, its first frame as a picture for print and for readers without script."""
    frames = [base64.b64encode(f).decode() for f in player.frames]
    data = {
        "size": list(player.size_wh),
        "fps": player.fps,
        "numbers": list(map(int, player.numbers)),
        "frames": frames,
        "tracks": [
            {
                "name": t.name,
                "colour": t.colour,
                "dashed": t.dashed,
                "boxes": [None if np.isnan(b).any() else [round(float(v), 1) for v in b] for b in t.boxes_xywh],
                "values": None if t.values is None else [None if np.isnan(v) else round(float(v), 3) for v in t.values],
            }
            for t in player.tracks
        ],
    }
    first = frames[0] if frames else ""
    return (
        f'<div class="player"><h3>{html.escape(player.title)}</h3><p class="note">{html.escape(player.note)}</p>'
        f'<div class="screen"><img alt="{html.escape(player.title)}" src="data:image/jpeg;base64,{first}" '
        f'width="{player.size_wh[0]}" height="{player.size_wh[1]}"></div>'
        f'<script type="application/json">{json.dumps(data, separators=(",", ":"))}</script></div>'
    )


def flat_items(entries: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one level: {"a": {"b": 1}} -> {"a.b": "1"}."""
    out: dict[str, str] = {}
    for key, value in entries.items():
        if isinstance(value, Mapping):
            out |= flat_items(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = "" if value is None else str(value)
    return out


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
