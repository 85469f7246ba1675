"""One template, one search region, a Hann window: all of it is in the shared base."""

from __future__ import annotations

from lib.track import OneStreamTracker


class ToyTracker(OneStreamTracker):
    """The base calls `encode_template` once per target and `locate` once per frame; nothing is to be changed."""
