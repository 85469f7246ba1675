"""ONLINE: a filter that a tracker learns while it tracks, on the features that its head reads.

The filter has no trained weights: it begins with zeros, and its loss and step length are those that DiMP's training
begins with (ICCV 2019, sec. 3.4). All that it reads of the tracker are search regions and candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.config import Online
from lib.device import to_device
from lib.models.heads import FEATURE, Candidates
from lib.models.layers import instance_l2_norm
from lib.models.online import SteepestDescent, apply_filter
from lib.track.sample_memory import SampleMemory
from lib.track.state import State
from lib.track.tracker import Prediction, SearchRegion, TrackerOutput

SearchAround = Callable[[Tensor], tuple[SearchRegion, TrackerOutput]]
"""Boxes [B, 4] in image pixels of the first frames -> search regions around them, and the network's output."""


@dataclass
class OnlineState(State):
    """Filters of B sequences, and what they learn from.

    Attributes:
        filters: [B, C, k, k] float32.
        samples: What they learn from; boxes are in cells.
        steps: [B] int64 on the CPU, frames since the first.
    """

    filters: Tensor
    samples: SampleMemory
    steps: Tensor


class OnlineFilter:
    """Learns filters, and mixes their scores with those of a head.

    Args:
        settings: ONLINE.
        grid: Cells along a side of the map of scores.
        cell: Distance of two cells in units of the search region's side.
        device: Of the tracker.
    """

    def __init__(self, settings: Online, grid: int, cell: float, device: torch.device) -> None:
        self.settings, self.grid, self.cell = settings, grid, cell
        self.descent = SteepestDescent(settings.filter_size, 1, settings.label_sigma).requires_grad_(False).to(device)

    def init_state(self, boxes_xywh: Tensor, search_around: SearchAround) -> OnlineState:
        """Learn from the first frames, in which search regions are cut around the targets and shifted.

        Without shifts the filter of a network with position embeddings would learn that the target is in the middle.

        Args:
            boxes_xywh: [B, 4] targets in image pixels.
            search_around: Cuts search regions.

        Raises:
            ValueError: There is no score per cell to mix with, or no map of features.
        """
        s, features, places = self.settings, [], []
        reach = s.init_shift * boxes_xywh[:, 2:].prod(dim=1, keepdim=True).sqrt()
        for y, x in sorted(itertools.product((-1.0, 0.0, 1.0), repeat=2), key=lambda at: at != (0.0, 0.0)):
            around = torch.cat([boxes_xywh[:, :2] + reach * reach.new_tensor([x, y]), boxes_xywh[:, 2:]], dim=1)
            region, output = search_around(around)
            features.append(self._features(output.candidates))
            places.append(self._to_cells(region, boxes_xywh))
        maps, boxes = torch.stack(features, dim=1), torch.stack(places, dim=1).to(features[0])
        samples = SampleMemory.init(maps, boxes, s.sample_memory_size)
        rows, _, channels = maps.shape[:3]
        zeros = maps.new_zeros(rows, channels, s.filter_size, s.filter_size)
        filters = self.descent(zeros, maps, boxes, iterations=s.init_iterations)[-1]
        return OnlineState(filters, samples, torch.zeros(rows, dtype=torch.int64))

    def mix(self, candidates: Candidates, state: OnlineState, rows: Tensor | None = None) -> Candidates:
        """The candidates with scores that the filters have a share in.

        Args:
            candidates: Of M search regions, all shapes of a cell with the same share.
            state: Of B sequences.
            rows: [M], see `StagedTracker.forward`.
        """
        filters = state.filters if rows is None else state.filters[rows]
        scores = apply_filter(self._features(candidates)[:, None], filters).flatten(1).clamp(0, 1)
        scores = scores.repeat(1, candidates.scores.shape[1] // scores.shape[1])
        scores = candidates.scores * scores if self.settings.mix == "product" else scores
        return replace(candidates, scores=torch.lerp(candidates.scores, scores, self.settings.weight))

    def learn(
        self, state: OnlineState, region: SearchRegion, candidates: Candidates, prediction: Prediction
    ) -> OnlineState:
        """Store confident frames as samples, and improve the filters of rows that are due.

        Args:
            state, region, candidates, prediction: Of B sequences in one frame.
        """
        s, steps = self.settings, state.steps + 1
        # NaN is not confident.
        learns = prediction.scores >= s.threshold
        rows = learns.nonzero().flatten().tolist()
        if not rows:
            return replace(state, steps=steps)
        rates = torch.full((len(rows),), s.learning_rate)
        features, boxes = self._features(candidates), self._to_cells(region, prediction.boxes_xywh)
        seen = features[to_device(torch.tensor(rows), features.device)]
        samples = state.samples.add(rows, seen, boxes[rows], rates, s.init_samples_minimum_weight)
        due = (learns & (steps % s.train_skipping == 0)).nonzero().flatten().tolist()
        filters = state.filters
        if due:
            at = to_device(torch.tensor(due), filters.device)
            learned = self.descent(filters[at], *samples.samples(due), iterations=s.iterations)[-1]
            filters = filters.index_copy(0, at, learned)
        return OnlineState(filters, samples, steps)

    def _features(self, candidates: Candidates) -> Tensor:
        """The head's input [M, C, g, g] float32, less its mean; patches of a filter's size have a norm of about 1."""
        feature = candidates.maps.get(FEATURE)
        if candidates.scores.shape[1] == 1:
            raise ValueError("ONLINE needs a head with a score for every cell (a corner head gives one box)")
        if feature is None or feature.shape[-1] != self.grid:
            raise ValueError("ONLINE needs the map of features that the head reads, which this network does not give")
        x = feature.float()
        x = x - x.mean(dim=(2, 3), keepdim=True)
        return instance_l2_norm(x, (x.shape[1] * self.settings.filter_size**2) ** -0.5)

    def _to_cells(self, region: SearchRegion, boxes_xywh: Tensor) -> Tensor:
        """Boxes [B, 4] of image pixels in cells of the map."""
        corners, sizes = region.to_crop(boxes_xywh).split(2, dim=1)
        return torch.cat([(corners - 0.5) / self.cell + self.grid / 2, sizes / self.cell], dim=1)
