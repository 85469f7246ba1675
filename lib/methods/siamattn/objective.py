"""Objective of SiamAttn: that of SiamRPN++, and refined boxes and masks of proposals around the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data import Batch
from lib.device import to_device
from lib.methods.siamattn.config import SiamAttnConfig
from lib.methods.siamattn.network import BOX_FEATURES, HAS_MASKS, TRUE_MASKS, Regions, SiamAttn
from lib.methods.siamrpnpp.config import SiamRPNConfig
from lib.methods.siamrpnpp.objective import AnchorCriterion
from lib.models.heads import Candidates, anchor_candidates, changes_between, masks_in_boxes
from lib.models.losses import generalised_iou, hardest_pixels_loss
from lib.objectives import Losses, Progress

Pick = Callable[[Tensor, int], Tensor]
"""(positions [n] int64, number) -> this number of them, at random, without replacement."""


def pick_random(positions: Tensor, count: int) -> Tensor:
    """Draw with random numbers of the CPU, the same for all devices."""
    return positions[to_device(torch.randperm(len(positions))[:count], positions.device)]


@dataclass(frozen=True)
class RegionSampler:
    """Draws the same number of boxes in every sample, among those that overlap the target enough.

    Attributes:
        count: Boxes per sample. Fewer candidates are repeated as often as they fit in; the rest is drawn.
        threshold: Least intersection over union with the target.
        pick: Draws without replacement.
    """

    count: int = 16
    threshold: float = 0.5
    pick: Pick = pick_random

    def __call__(self, boxes_xyxy: Tensor, truth_xyxy: Tensor) -> Tensor:
        """Choose boxes.

        Args:
            boxes_xyxy: [n, N, 4] proposals, without gradients.
            truth_xyxy: [n, 4] targets of positive size, which are appended to the proposals of their sample.

        Returns:
            [n, count, 4] float64.
        """
        candidates = torch.cat([boxes_xyxy, truth_xyxy[:, None]], dim=1).double()
        _, overlaps = generalised_iou(candidates, candidates[:, -1:])
        chosen = []
        for boxes, overlap in zip(candidates, overlaps, strict=True):
            near = (overlap >= self.threshold).nonzero().flatten()
            whole, rest = divmod(self.count, len(near))
            chosen.append(boxes[torch.cat([near.repeat(whole), self.pick(near, rest)])])
        return torch.stack(chosen) if chosen else candidates.new_zeros(0, self.count, 4)


@dataclass(frozen=True)
class RegionTargets(Regions):
    """Regions of a batch, and what the refinement is to predict in them.

    Attributes:
        changes: [N, 4] from the regions to the target, see `changes_between`.
        has_target: False where no sample of the batch has a target; the regions are then placeholders without a loss,
            so that the graph is the same in all processes.
    """

    changes: Tensor
    has_target: bool = True


@dataclass(frozen=True)
class SiamAttnCriterion(AnchorCriterion):
    """As `AnchorCriterion`, with smooth L1 of refined boxes and cross-entropy of the hardest pixels of masks.

    Attributes:
        sampler: Of the regions.
        refine_weight, mask_weight: Of the two losses.
    """

    sampler: RegionSampler = RegionSampler()
    refine_weight: float = 0.5
    mask_weight: float = 0.2

    @classmethod
    def from_config(cls, config: SiamRPNConfig) -> SiamAttnCriterion:
        """By TRAIN's weights and thresholds, for search regions of DATA.SEARCH.SIZE."""
        assert isinstance(config, SiamAttnConfig)
        plain, t = AnchorCriterion.from_config(config), config.train
        sampler = RegionSampler(t.roi_per_img, t.fg_thresh)
        return cls(**vars(plain), sampler=sampler, refine_weight=t.refine_weight, mask_weight=t.mask_weight)

    def propose(self, candidates: Candidates, boxes_xywh: Tensor, present: Tensor) -> RegionTargets:
        """Regions of the samples with a target.

        Args:
            candidates: Of B search regions.
            boxes_xywh: [B, 4] targets in units of the search region's side.
            present: [B] bool, the target is in the search region.
        """
        loc = candidates.maps["loc"].detach()
        samples = (to_device(present, loc.device) & (boxes_xywh[:, 2:] > 0).all(dim=1)).nonzero().flatten()
        side, dtype = self.search_size, loc.dtype if loc.dtype == torch.float64 else torch.float32
        if not len(samples):
            rows = torch.zeros(self.sampler.count, dtype=torch.int64, device=loc.device)
            rois = loc.new_tensor([[0.0, 0.0, side - 1, side - 1]], dtype=dtype).expand(len(rows), 4)
            return RegionTargets(rows, rois, torch.zeros_like(rois), has_target=False)
        low = boxes_xywh[samples, :2].to(dtype) * side
        truth = torch.cat([low, low + boxes_xywh[samples, 2:].to(dtype) * side], dim=1)
        loc = loc[samples]
        anchors = to_device(self.matcher.anchors(), loc.device)
        boxes = anchor_candidates(loc[:, :2].flatten(1), loc.flatten(1), anchors).boxes
        corners = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)
        rois = self.sampler(corners, truth)
        changes = changes_between(rois, truth[:, None].double())
        rows = samples.repeat_interleave(self.sampler.count)
        return RegionTargets(rows, rois.flatten(0, 1).to(dtype), changes.flatten(0, 1).to(dtype))

    def region_losses(
        self,
        changes: Tensor,
        mask_logits: Tensor,
        regions: RegionTargets,
        masks: Tensor | None,
        has_masks: Tensor | None,
    ) -> Losses:
        """Losses of refined boxes and of masks.

        Args:
            changes, mask_logits: Of the regions, see `SiamAttnOutput`.
            regions: What `propose` gave.
            masks: [B, S, S] targets in the search regions, 0..1, or None.
            has_masks: [B] bool, whose masks are known.
        """
        refine = F.smooth_l1_loss(changes, regions.changes.to(changes)) * float(regions.has_target)
        mask = mask_logits.sum() * 0.0
        if masks is not None and has_masks is not None and regions.has_target:
            known = has_masks.to(regions.rows.device)[regions.rows].nonzero().flatten()
            drawn = masks_in_boxes(masks, regions.rows[known], regions.rois_xyxy[known], mask_logits.shape[-1])
            mask = mask + hardest_pixels_loss(mask_logits[known], drawn.to(mask_logits))
        total = self.refine_weight * refine + self.mask_weight * mask
        return Losses(total, {"Loss/refine": refine, "Loss/mask": mask})


class SiamAttnObjective:
    """Losses of all pairs; negative pairs have background scores alone.

    The masks are those of DATA.MASKS; a sample without one has no mask loss.
    """

    def __init__(self, config: SiamAttnConfig, network: nn.Module) -> None:
        self.criterion = SiamAttnCriterion.from_config(config)

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        criterion, boxes = self.criterion, batch.search_boxes[:, 0]
        targets = criterion.targets(boxes, batch.negative)
        present = torch.ones(len(boxes), dtype=torch.bool) if batch.negative is None else ~batch.negative
        propose = partial(criterion.propose, boxes_xywh=boxes, present=present)
        output = network(batch.template[:, 0], batch.search[:, 0], propose)
        losses = criterion(output.candidates, targets)
        masks, has_masks = batch.extras.get("search_masks"), batch.extras.get("has_masks")
        masks = None if masks is None else masks[:, 0] / 255
        more = criterion.region_losses(output.changes, output.mask_logits, output.regions, masks, has_masks)
        total = losses.total + more.total
        return Losses(total, {**losses.terms, "Loss/total": total, **more.terms})


@dataclass(frozen=True)
class SiamAttnAuxiliary:
    """Auxiliary loss in sequence-level training: boxes, refined boxes and masks; scores learn by the policy."""

    criterion: SiamAttnCriterion
    network: SiamAttn

    def __call__(self, candidates: Candidates, targets_xywh: Tensor) -> Losses:
        """Losses of M search regions.

        Args:
            candidates: With true masks among the maps, where there are some.
            targets_xywh: See `lib.objectives.AuxiliaryLoss`.
        """
        criterion, maps = self.criterion, candidates.maps
        boxes = criterion.box_losses(candidates, criterion.targets(targets_xywh))
        present = torch.ones(len(targets_xywh), dtype=torch.bool)
        regions = criterion.propose(candidates, targets_xywh, present)
        changes = self.network.refine(candidates.maps[BOX_FEATURES], regions.rois_xyxy, regions.rows)
        logits = self.network.draw(candidates, regions)
        more = criterion.region_losses(changes, logits, regions, maps.get(TRUE_MASKS), maps.get(HAS_MASKS))
        return Losses(boxes.total + more.total, {**boxes.terms, **more.terms})
