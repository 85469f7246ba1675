"""SDSTrack at test time: OSTrack's procedure on frames with two pictures; the confidence is the windowed maximum."""

from __future__ import annotations

from lib.methods.ostrack.tracker import OSTrackTracker
from lib.methods.sdstrack.network import SDSTrack


class SDSTrackTracker(OSTrackTracker):
    """The template's tokens of both modalities are computed once."""

    network: SDSTrack
    reads_aux = True
