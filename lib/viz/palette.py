"""Colours that people with any colour vision can tell apart (Okabe and Ito, 2008)."""

from __future__ import annotations

TRUTH = "#009E73"
TRACKERS = ("#D55E00", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F", "#B2DF8A")


def colour(index: int) -> str:
    """Hex colour of the tracker with this position in a table; they repeat after eight."""
    return TRACKERS[index % len(TRACKERS)]


def rgb(hex_colour: str) -> tuple[int, int, int]:
    """`"#D55E00"` -> (213, 94, 0)."""
    value = hex_colour.lstrip("#")
    if len(value) != 6:
        raise ValueError(f"{hex_colour!r} is no colour of the form #RRGGBB")
    return int(value[:2], 16), int(value[2:4], 16), int(value[4:], 16)
