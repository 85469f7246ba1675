"""Gain of a mask head on a trained tracker, on held-out rendered targets that turn and deform, over seeds.

The head (experiments/ostrack/synthetic_mask.yaml) learns on the features of the shipped network, which stays as it is.
Its masks, and the smallest rectangles around them, are compared with the true ones; so are the boxes that the tracker
gives with and without it. Trainings and figures that are there already are not made again.

    PYTHONPATH=. python benchmarks/target_masks.py --save_dir output/masks --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from commands import trained

from lib.bench.metrics import polygon_overlap
from lib.data.datasets import build_dataset
from lib.methods import load_experiment
from lib.paths import load_paths
from lib.track import polygon_of

CONFIG = "synthetic_mask"
COLUMNS = {
    "mask": "mask with true mask",
    "box_mask": "box with true mask",
    "polygon": "polygon with true polygon",
    "box_polygon": "box with true polygon",
}


def rasterised(box_xywh: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """[H, W] bool, the pixels whose centres are in a box."""
    (x, y, w, h), (height, width) = box_xywh, size_hw
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    return ((rows >= y) & (rows < y + h))[:, None] & ((columns >= x) & (columns < x + w))


@torch.no_grad()
def overlaps(weights: Path, data: str, batch: int) -> dict[str, float]:
    """Means of `COLUMNS` in percent over all frames but the first ones in which the target is seen."""
    experiment = load_experiment("ostrack", CONFIG)
    network = experiment.method.build_network(experiment.config, False)
    experiment.load_weights(network, weights)
    tracker = experiment.build_tracker(network.eval())
    tracker.request_regions("polygon", "mask")
    dataset = build_dataset(data, load_paths())
    videos = [dataset[i] for i in range(len(dataset))]
    found: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for first in range(0, len(videos), batch):
        group = videos[first : first + batch]
        start = torch.from_numpy(np.stack([v.boxes_xywh[0] for v in group]))
        state = tracker.init([v.read_frame(0) for v in group], start)
        for t in range(1, len(group[0])):
            state, given = tracker.step(state, [v.read_frame(t) for v in group])
            assert given.masks is not None
            assert given.polygons is not None
            rows = zip(group, given.boxes_xywh.numpy(), given.masks, given.polygons.numpy(), strict=True)
            for video, box, mask, polygon in rows:
                truth = video.read_mask(t) if video.read_mask and video.visible[t] else None
                if truth is None or not truth.any():
                    continue
                drawn = rasterised(box, truth.shape)
                corners = polygon_of(truth, video.boxes_xywh[t]).reshape(1, 8)
                for name, one in (("mask", mask), ("box_mask", drawn)):
                    found[name].append(float((one & truth).sum() / (one | truth).sum()))
                for name, one in (("polygon", polygon.reshape(1, 8)), ("box_polygon", box[None])):
                    found[name].append(float(polygon_overlap(one, corners)[0]))
    return {name: 100 * statistics.fmean(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save_dir", type=Path, default=Path("output/masks"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sequences", type=int, default=12, help="held-out sequences")
    parser.add_argument("--frames", type=int, default=25, help="of each")
    parser.add_argument("--test_seed", type=int, default=90211, help="which held-out sequences")
    parser.add_argument("--batch", type=int, default=8, help="sequences at a time")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for all trainings")
    args = parser.parse_args()
    size = f"sequences={args.sequences},length={args.frames},seed={args.test_seed},cache={args.batch}"
    data = f"SYNTHETIC:attributes=ROT+DEF,{size}"
    runs = []
    for seed in args.seeds:
        place = args.save_dir / f"seed{seed}"
        file = place / f"{size.replace(',', '_')}.json"
        if not file.is_file():
            figures = overlaps(trained("ostrack", CONFIG, seed, place, settings=args.set), data, args.batch)
            file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        runs.append(json.loads(file.read_text()))
        print(f"seed {seed}: " + ", ".join(f"{COLUMNS[k]} {v:.1f}" for k, v in runs[-1].items()), flush=True)
    for name, label in COLUMNS.items():
        values = [run[name] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{label}: {statistics.fmean(values):.1f} % (standard deviation over seeds {spread:.1f})")


if __name__ == "__main__":
    main()
