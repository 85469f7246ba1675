"""Objective of SDSTrack: frame-level losses on clean and masked pictures, and their agreement at every fusion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.data import Batch
from lib.methods.ostrack.objective import OSTrackObjective
from lib.methods.sdstrack.config import SDSTrackConfig
from lib.methods.sdstrack.network import SDSTrack
from lib.models.backbones import Fusion
from lib.models.layers import MaskRates, PatchMasks, put_back
from lib.objectives import Losses, Progress, SelfDistillation


class SDSTrackObjective(OSTrackObjective):
    """Losses of one template and one search region per sample, both with six channels (SDSTrack, sec. 3.3).

    TRAIN.ALIGN_TOKENS compares tokens of the two passes place by place, where both kept them; as published, they are
    compared by their order after elimination.

    Attributes:
        losses: Of the two passes and their agreement.
        rates: Shares of hidden patches.
        grids: Numbers of template tokens and of search tokens.
    """

    def __init__(self, config: SDSTrackConfig, network: SDSTrack) -> None:
        super().__init__(config, network)
        train, backbone = config.train, network.backbone
        self.losses = SelfDistillation.from_config(train, criterion=self.criterion)
        self.rates, self.align_tokens = MaskRates(train.mask_rate_rgb, train.mask_rate_x), train.align_tokens
        self.grids = backbone.grid_template**2, backbone.grid_search**2

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        return self.learn(network, batch, progress, self.rates.draw(len(batch), *self.grids, batch.search.device))

    def learn(self, network: nn.Module, batch: Batch, progress: Progress, masks: PatchMasks) -> Losses:
        """As a call, with given masks.

        Args:
            network, batch, progress: See `lib.objectives.Objective`.
            masks: Hidden patches of both pictures.
        """
        output = network(*self.inputs(batch, progress.epoch), masks)
        pairs = [self._pair(fusion) for fusion in output.tokens.fusions]
        return self.losses(output.candidates, batch.search_boxes[:, 0], pairs)

    def _pair(self, fusion: Fusion) -> tuple[Tensor, Tensor]:
        """Tokens of the clean and the masked pass at one fusion, [2B, Nz + N, C] each, both modalities."""
        tokens, index = fusion.tokens, fusion.index
        if self.align_tokens and index is not None:
            n, length = self.grids
            kept = put_back(torch.ones_like(tokens[:, n:, :1]), index, length)
            # Rows by modality and pass: 1 where both passes of a modality kept the token.
            in_both = kept.unflatten(0, (2, 2, -1)).prod(dim=1, keepdim=True).expand(-1, 2, -1, -1, -1).flatten(0, 2)
            compared = torch.cat([torch.ones_like(tokens[:, :n, :1]), in_both], dim=1)
            tokens = torch.cat([tokens[:, :n], put_back(tokens[:, n:], index, length)], dim=1) * compared
            tokens = tokens * (compared.numel() / compared.sum()).sqrt()
        clean, masked = tokens.unflatten(0, (2, 2, -1)).unbind(1)
        return clean, masked
