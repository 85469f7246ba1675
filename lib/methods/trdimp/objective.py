"""Losses of TrDiMP: scores under all iterates of a filter, and densities of boxes; the latter in roll-outs, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.config import ConfigError
from lib.data import Batch
from lib.device import to_device
from lib.methods.trdimp.config import TrDiMPConfig, TrDiMPTrain
from lib.methods.trdimp.network import ImageFeatures, TrDiMP, TrDiMPOutput
from lib.methods.trdimp.tracker import TEMPLATE_SIGMA
from lib.models.heads import Candidates
from lib.models.losses import gaussian_labels, hinge_loss
from lib.models.proposals import Proposals, density_loss, draw_proposals
from lib.objectives import Losses, Progress

Propose = Callable[[Tensor, TrDiMPTrain], Proposals]
"""(targets [..., 4] in crop pixels, TRAIN) -> boxes around them."""


def random_proposals(boxes_xywh: Tensor, train: TrDiMPTrain) -> Proposals:
    """TRAIN.PROPOSALS boxes around each target.

    Random numbers come from the CPU, so that they are the same for all devices.

    Args:
        boxes_xywh: [..., 4] targets.
        train: Number of proposals and deviations.
    """
    shape = (*boxes_xywh.shape[:-1], train.proposals)
    components = to_device(torch.randint(len(train.proposal_sigmas), shape), boxes_xywh.device)
    normal = to_device(torch.randn(*shape, 4).to(boxes_xywh.dtype), boxes_xywh.device)
    return draw_proposals(boxes_xywh, components, normal, train.proposal_sigmas)


class TrDiMPObjective:
    """Hinge loss of the scores (DiMP, eq. 4 and 8), divergence of the boxes' densities (PrDiMP, sec. 4.2).

    Attributes:
        propose: See `ProposalLoss`.

    Raises:
        ConfigError: A batch of one sample.
    """

    def __init__(self, config: TrDiMPConfig, network: TrDiMP) -> None:
        self.train, self.size, self.grid = config.train, network.size, network.grid
        self.propose: Propose = random_proposals
        if config.train.batch_size < 2:
            raise ConfigError(
                f"TRAIN.BATCH_SIZE {config.train.batch_size}: TrDiMP needs at least 2 samples per process, since batch "
                "norms of its box regressor see a single value per sample, which has no variance"
            )

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        targets = batch.search_boxes * self.size
        proposals = self.propose(targets, self.train)
        labels = gaussian_labels(batch.template_boxes, self.grid, TEMPLATE_SIGMA)
        boxes = batch.template_boxes * self.size
        output = network(batch.template, batch.search, boxes, labels, proposals.boxes_xywh)
        return self.losses(output, batch.search_boxes, proposals)

    def losses(self, output: TrDiMPOutput, search_boxes: Tensor, proposals: Proposals) -> Losses:
        """Weighted sum of the losses.

        Args:
            output: Of the network.
            search_boxes: [B, m, 4] targets in units of the crop's side.
            proposals: That the network scored.
        """
        t = self.train
        labels = gaussian_labels(search_boxes, self.grid, t.search_sigma, padded=True)
        first, *between, last = (hinge_loss(s, labels.to(s), t.hinge_threshold) for s in output.scores)
        boxes = density_loss(output.box_scores, proposals)
        middle = torch.stack(between).mean() if between else torch.zeros_like(last)
        total = t.test_clf * last + t.test_init_clf * first + t.test_iter_clf * middle + t.bb_ce * boxes
        terms = {"Loss/clf": last, "Loss/init_clf": first, "Loss/iter_clf": middle, "Loss/bb_ce": boxes}
        return Losses(total, {"Loss/total": total, **terms})


@dataclass
class ProposalLoss:
    """Loss of the box regressor next to the policy's, in sequence-level training (SLT, ECCV 2022).

    Attributes:
        network: Whose regressor scores the proposals.
        train: TRAIN.
        propose: Gives the proposals.
    """

    network: TrDiMP
    train: TrDiMPTrain
    propose: Propose = random_proposals

    def __call__(self, candidates: Candidates, targets_xywh: Tensor) -> Losses:
        maps = candidates.maps
        is_there = (targets_xywh[:, 2:] > 0).all(dim=1)
        # An absent target adds no loss; its box is a placeholder.
        placeholder = targets_xywh.new_full((4,), 0.4)
        placeholder[2:] = 0.2
        boxes = torch.where(is_there[:, None], targets_xywh, placeholder)
        proposals = self.propose(boxes * self.network.size, self.train)
        features = ImageFeatures(maps["fine"], maps["coarse"], maps["classification"])
        scores = self.network.box_scores(maps["modulation"], features, proposals.boxes_xywh)
        rows = is_there.nonzero().flatten()
        loss = scores.sum() * 0.0
        if len(rows):
            loss = loss + density_loss(scores[rows], proposals.select(rows))
        return Losses(self.train.bb_ce * loss, {"Loss/bb_ce": loss})
