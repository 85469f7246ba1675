"""Samples of past frames that an online filter learns from, one row per sequence (DiMP, ICCV 2019; ATOM, CVPR 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.device import to_device
from lib.ranges import Count, Rate, Share
from lib.track.state import Slots, State


@dataclass(frozen=True)
class MemoryRules:
    """Weights of the samples that a filter learns from; TrDiMP's values.

    Attributes:
        sample_memory_size: Samples of a sequence.
        learning_rate: Weight of a new sample.
        hard_negative_learning_rate: Weight of a new sample with a distractor.
        init_samples_minimum_weight: Samples of the first frame keep at least this weight together.
    """

    sample_memory_size: Count = 50
    learning_rate: Rate = 0.01
    hard_negative_learning_rate: Rate = 0.02
    init_samples_minimum_weight: Share = 0.25


@dataclass
class SampleMemory(State):
    """Samples of B sequences.

    Attributes:
        features: Stores [K, C, H, W].
        boxes_xywh: [B, K, 4] targets in crop pixels, on the device of the features.
        weights: [B, K] on the CPU; they add up to 1, or a little more where those of the first frame were raised.
        stored: [B] int64 on the CPU, samples that were ever stored.
        first: [B] int64 on the CPU, samples of the first frame.
        latest: [B] int64 on the CPU, slot that was written last; -1 for none after the first frame.
    """

    features: Slots
    boxes_xywh: Tensor
    weights: Tensor
    stored: Tensor
    first: Tensor
    latest: Tensor

    @classmethod
    def init(cls, features: Tensor, boxes_xywh: Tensor, capacity: int) -> SampleMemory:
        """The memory after the first frame, all samples of equal weight.

        Args:
            features: [B, n, C, H, W].
            boxes_xywh: [B, n, 4] in crop pixels.
            capacity: Samples of a sequence, more than n.
        """
        rows, count = features.shape[:2]
        room = features.new_zeros(capacity - count, *features.shape[2:])
        stores = Slots.of(torch.cat([samples, room]) for samples in features)
        boxes = boxes_xywh.new_zeros(rows, capacity, 4)
        boxes[:, :count] = boxes_xywh
        weights = torch.zeros(rows, capacity)
        weights[:, :count] = 1 / count
        counts = torch.full((rows,), count, dtype=torch.int64)
        return cls(stores, boxes, weights, counts, counts.clone(), torch.full_like(counts, -1))

    def add(self, rows: list[int], features: Tensor, boxes_xywh: Tensor, rate: Tensor, least: float) -> SampleMemory:
        """Store a sample in some rows.

        Args:
            rows: R row numbers, each once, at least one.
            features: [R, C, H, W].
            boxes_xywh: [R, 4] in crop pixels.
            rate: [R] weights of the new samples.
            least: See `MemoryRules.init_samples_minimum_weight`.
        """
        at = torch.tensor(rows)
        before = self.weights[at], self.stored[at], self.first[at], self.latest[at]
        weights, slots = next_weights(*before, rate.to(self.weights), least)
        device = self.boxes_xywh.device
        boxes = to_device(boxes_xywh.to(self.boxes_xywh.dtype), device)
        return replace(
            self,
            features=self.features.write(rows, slots.tolist(), features),
            boxes_xywh=self.boxes_xywh.index_put((to_device(at, device), to_device(slots, device)), boxes),
            weights=self.weights.index_copy(0, at, weights),
            stored=self.stored.index_copy(0, at, self.stored[at] + 1),
            latest=self.latest.index_copy(0, at, slots),
        )

    def samples(self, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Samples of some rows; a row with fewer samples is filled up with others of weight 0.

        Args:
            rows: R row numbers.

        Returns:
            Features [R, n, C, H, W] (of a single row no copy), boxes [R, n, 4], weights [R, n] on their device.
        """
        count = min(int(self.stored[rows].max()), self.weights.shape[1])
        stores = [self.features.read(row)[:count] for row in rows]
        features = stores[0][None] if len(rows) == 1 else torch.stack(stores)
        boxes = self.boxes_xywh[to_device(torch.tensor(rows), features.device), :count]
        return features, boxes, to_device(self.weights[rows, :count].to(features.dtype), features.device)


def next_weights(
    weights: Tensor, stored: Tensor, first: Tensor, latest: Tensor, rate: Tensor, least: float
) -> tuple[Tensor, Tensor]:
    """Weights after one more sample, and the slot that it takes.

    The slot is a free one, or that of the smallest weight among the samples of later frames.

    Args:
        weights, stored, first, latest: See `SampleMemory`.
        rate: [B] weights of the new samples.
        least: See `MemoryRules.init_samples_minimum_weight`.

    Returns:
        [B, K], and [B] int64.
    """
    numbers = torch.arange(weights.shape[1])
    of_first = numbers < first[:, None]
    smallest = weights.masked_fill(of_first, torch.inf).argmin(dim=1)
    slots = torch.where(stored < weights.shape[1], stored, smallest)
    begins, kept = latest < 0, 1 - rate
    previous = weights.gather(1, latest.clamp(min=0)[:, None]).squeeze(1)
    weights = torch.where(begins[:, None], weights / kept[:, None], weights)
    new = torch.where(begins, rate, previous / kept)
    weights = weights.scatter(1, slots[:, None], new[:, None])
    weights = weights / weights.sum(dim=1, keepdim=True)
    share = (weights * of_first).sum(dim=1, keepdim=True)
    others = weights.sum(dim=1, keepdim=True) - share
    raised = torch.where(of_first, least / first[:, None], weights / (least + others))
    return torch.where(share < least, raised, weights), slots
