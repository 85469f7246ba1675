"""Labels without annotators: their qualities, and how they are made from optical flow."""

from __future__ import annotations

import numpy as np
from golden import Case, runner

from lib.config import Data
from lib.data import Qualities


def _as_stored(value: float) -> float:
    """A number as these cases write it, in nine digits; their tolerance is narrower than that."""
    return float(f"{value:.9g}")


@runner("gdstrack/sampler_quality")
def sampler_quality(case: Case) -> None:
    data = Data(video_quality=case.config["video_quality_threshold"])
    for i, row in enumerate(case.data["outputs"]):
        short, long, first, last, corner = row["frame_info"][4:]
        length = row["video_len"]
        video = Qualities(
            row["bbox_picked_freq"],
            row["corner_bbox_freq"],
            np.full(length, short),
            np.full(length, long),
            np.tile(np.array([first, last], dtype=np.int64), (length, 1)),
            np.full(length, corner),
        )
        assert video.tries == row["num_candidates"], f"row {i}"
        case.check(_as_stored(video.video), row["video_quality"], f"row {i} video")
        (found,) = video.frames([0], data.frame_quality)
        case.check(_as_stored(found), row["long_term_quality"], f"row {i} long")
        (found,) = video.frames([0], "short")
        case.check(_as_stored(found), row["short_term_quality"], f"row {i} short")
