"""Labels without annotators: their qualities, and how they are made from optical flow."""

from __future__ import annotations

import numpy as np
from golden import Case, runner

from lib.config import Data
from lib.data import (
    LabelSettings,
    Qualities,
    candidate_boxes,
    corner_scores,
    make_track,
    path_agreement,
    window_agreement,
)


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


def _flow(item: dict) -> np.ndarray:
    """The flow of a case's `flow_rule`: a smooth background, and one rectangle that moves by itself."""
    height, width = item["H"], item["W"]
    grid = np.random.RandomState(item["seed"]).uniform(-0.4, 0.4, (6, 8, 2))
    ys, xs = np.linspace(0, 5, height), np.linspace(0, 7, width)
    top, left = np.minimum(ys.astype(int), 4), np.minimum(xs.astype(int), 6)
    dy, dx = (ys - top)[:, None, None], (xs - left)[None, :, None]
    rows = [grid[top + i][:, left] * (1 - dx) + grid[top + i][:, left + 1] * dx for i in (0, 1)]
    flow = rows[0] * (1 - dy) + rows[1] * dy
    x1, y1, x2, y2 = item["moving_box"]
    flow[y1:y2, x1:x2] += item["vector"]
    return np.asarray(flow)


@runner("gdstrack/pseudo_labels")
def pseudo_labels(case: Case) -> None:
    given, stored, config = case.data["inputs"], case.data["outputs"], case.config
    settings = LabelSettings(config["gap"], config["cut_ratio"], shake=0)
    assert settings.evaluated(given["num_frames"]) == given["evaluated_frames"]
    candidates = [np.array(boxes, dtype=np.float64).reshape(-1, 4) for boxes in given["candidates_per_evaluated_frame"]]
    track = make_track(candidates, given["num_frames"], tuple(config["image_wh"]), settings, np.random.default_rng(0))
    assert track is not None
    assert track.picked_frames.tolist() == stored["picked_frames"]
    case.check(track.boxes, stored["boxes"], "boxes")
    case.check(track.found, stored["bbox_found_freq"], "found")
    case.check(track.qualities.picked, stored["bbox_picked_freq"], "picked")
    case.check(track.qualities.corner, stored["corner_bbox_freq"], "corner share")
    found = np.stack([track.qualities.short, track.qualities.long], axis=1)
    case.check(found, stored["freq_short_long"], "found near each frame")
    for item in stored["diou"]:
        a, b = np.array(item["a"]), np.array(item["b"])
        case.check(path_agreement(a, b), item["diou_path"], "path")
        case.check(window_agreement(a, b), item["diou_window"], "window")
    for item in stored["corner"]:
        box = np.array([item["box"]], dtype=np.float64)
        score = corner_scores(box, settings.inner(*item["frame_wh"]))
        case.check(score, [item["corner_score"]], f"corner {item['box']}")
    for item in stored["flow_candidates"]:
        case.check(candidate_boxes(_flow(item), settings), item["candidates"], f"flow {item['seed']}")
