"""Operations per target and per frame that PyTorch dispatches, of networks as trained and fused for inference.

On a GPU at batch 1 the number of operations is the time. Random weights; nothing is timed.

    PYTHONPATH=. python benchmarks/operations.py
    PYTHONPATH=. python benchmarks/operations.py ostrack/vitb_256_mae_32x4_ep300
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

from lib.bench import TrackerSpec, counting
from lib.deploy import fuse_tracker
from lib.models.layers import FuseOptions
from lib.track import OneStreamTracker

CONFIGS = (
    "ostrack/vitb_256_mae_ce_32x4_ep300",
    "loretrack/loretrack_128",
    "sdstrack/cvpr2024_rgbt",
    "cstrack_s1/cstrack_s1",
    "cstrack_s2/cstrack_s2",
    "slt_transt/slt_transt",
)


@torch.no_grad()
def operations(network: nn.Module, normalise: nn.Module, entry_point: str, inputs: dict[str, Tensor]) -> int:
    """Operations of one call; pictures among the inputs are uint8 and are normalised outside the count."""
    given = [normalise(x) if x.dtype == torch.uint8 else x for x in inputs.values()]
    with counting() as cost:
        getattr(network, entry_point)(*given)
    return cost.kernels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=CONFIGS, metavar="SCRIPT/CONFIG")
    print(f"{'configuration':<40} {'entry point':<16} {'trained':>8} {'fused':>8}")
    for name in parser.parse_args().configs:
        script, config = name.split("/")
        tracker = TrackerSpec(script, config, untrained=True, device="cpu").build_plain(0)
        assert isinstance(tracker, OneStreamTracker)
        fused = fuse_tracker(tracker, FuseOptions(grid=tracker.grid))
        for entry_point, inputs in tracker.network.sample_inputs().items():
            counts = [operations(t.network, t.normalise, entry_point, inputs) for t in (tracker, fused)]
            print(f"{name:<40} {entry_point:<16} {counts[0]:>8} {counts[1]:>8}", flush=True)


if __name__ == "__main__":
    main()
