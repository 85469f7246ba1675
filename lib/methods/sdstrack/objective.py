"""How SDSTrack learns: frame-level losses on clean and masked pictures, and their agreement at every fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.data import Batch
from lib.methods.ostrack.objective import Elimination
from lib.methods.sdstrack.network import SDSTrack
from lib.models.backbones import Fusion
from lib.models.layers import MaskRates, PatchMasks, put_back
from lib.objectives import Losses, Progress, SelfDistillation


class SDSTrackObjective:
    """One template and one search region per sample, both with six channels.

    elimination: None for a network without candidate elimination. aligned: tokens of the two passes are compared place
    by place, where both kept them; as published, they are compared by their order after elimination.
    """

    def __init__(
        self,
        losses: SelfDistillation,
        network: SDSTrack,
        rates: MaskRates,
        elimination: Elimination | None = None,
        aligned: bool = False,
    ) -> None:
        self.losses, self.rates, self.elimination, self.aligned = losses, rates, elimination, aligned
        self.template_mask = network.template_mask
        self.grids = network.backbone.grid_template**2, network.backbone.grid_search**2

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        return self.learn(network, batch, progress, self.rates.draw(len(batch), *self.grids, batch.search.device))

    def learn(self, network: nn.Module, batch: Batch, progress: Progress, masks: PatchMasks) -> Losses:
        """As a call, with given masks."""
        rate = None if self.elimination is None else self.elimination.rate(progress.epoch)
        mask = self.template_mask(batch.template_boxes[:, 0])
        output = network(batch.template[:, 0], batch.search[:, 0], mask, rate, masks)
        pairs = [self._pair(fusion) for fusion in output.tokens.fusions]
        return self.losses(output.maps, batch.search_boxes[:, 0], pairs)

    def _pair(self, fusion: Fusion) -> tuple[Tensor, Tensor]:
        """The clean and the other pass of one fusion."""
        tokens, index = fusion.tokens, fusion.index
        if self.aligned and index is not None:
            n, length = self.grids
            kept = put_back(torch.ones_like(tokens[:, n:, :1]), index, length)
            both = torch.cat([torch.ones_like(tokens[:, :n, :1]), _times_other_pass(kept)], dim=1)
            tokens = torch.cat([tokens[:, :n], put_back(tokens[:, n:], index, length)], dim=1) * both
            tokens = tokens * (both.numel() / both.sum()).sqrt()
        clean, hidden = tokens.unflatten(0, (2, 2, -1)).unbind(1)
        return clean, hidden


def _times_other_pass(kept: Tensor) -> Tensor:
    """[4B, L, 1] of 0 and 1, rows by modality and pass -> 1 where both passes of a modality are 1."""
    return kept.unflatten(0, (2, 2, -1)).prod(dim=1, keepdim=True).expand(-1, 2, -1, -1, -1).flatten(0, 2)
