"""Peak memory of deformable RoI pooling in a training step: a plain gather of all samples, and ours.

Forward and backward of the mask head's pooling (16 x 16 bins of maps of 63 x 63 cells), pictures with 16 RoIs each.
Memory is the largest sum of living tensors beyond the inputs, counted by torch's profiler of allocations.

    PYTHONPATH=. python benchmarks/pooling_memory.py --pictures 4
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from plain_siamattn import plain_roi_pool
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from lib.models.layers import deform_roi_pool

BINS, SCALE, ROIS = 16, 63 / 255, 16


def peak_bytes(step: Callable[[], object]) -> int:
    """The largest sum of tensors that live at a time, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    total = highest = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            highest = max(highest, total)
    return highest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--channels", type=int, default=256)
    options = parser.parse_args()
    torch.manual_seed(0)
    count = options.pictures * ROIS
    features = torch.randn(options.pictures, options.channels, 63, 63, requires_grad=True)
    offsets = torch.randn(count, 2, BINS, BINS, requires_grad=True)
    rows = torch.arange(options.pictures).repeat_interleave(ROIS)
    low = torch.rand(count, 2) * 120
    rois = torch.cat([low, low + 40 + torch.rand(count, 2) * 90], dim=1)
    found, gradients = {}, {}
    for name, pool in (("plain", plain_roi_pool), ("ours", deform_roi_pool)):

        def step(pool: Callable[..., Tensor] = pool, name: str = name) -> None:
            pooled = pool(features, rows, rois, BINS, SCALE, offsets)
            gradients[name] = torch.autograd.grad(pooled.square().sum(), [features, offsets])

        found[name] = peak_bytes(step)
    difference = max(float((a - b).abs().max()) for a, b in zip(*gradients.values(), strict=True))
    print(f"plain {found['plain'] / 2**20:.0f} MiB, ours {found['ours'] / 2**20:.0f} MiB, "
          f"{found['plain'] / found['ours']:.1f} times less; gradients differ by {difference:.2g}")  # fmt: skip


if __name__ == "__main__":
    main()
