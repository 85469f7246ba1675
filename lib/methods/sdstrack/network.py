"""SDSTrack (Hou et al., CVPR 2024): a frozen RGB tracker made an RGB-X tracker by adapters and fusion."""

from __future__ import annotations

from torch import Tensor, nn

from lib.methods.ostrack.network import OSTrack, OSTrackOutput
from lib.models.backbones import TwoStreamViT
from lib.models.layers import PatchMasks


class SDSTrack(OSTrack):
    """OSTrack's network over pictures of six channels; module names are those of published checkpoints."""

    backbone: TwoStreamViT

    def __init__(self, backbone: TwoStreamViT, box_head: nn.Module) -> None:
        super().__init__(backbone, box_head)

    @property
    def streams(self) -> int:
        """For distillation: RGB and the second modality."""
        return 2

    def locate(
        self,
        template_tokens: Tensor,
        search: Tensor,
        template_mask: Tensor | None = None,
        keep_rate: float | None = None,
    ) -> OSTrackOutput:
        """Once per frame: template_tokens [B, 2, Nz, C], search [B, 6, S, S], normalised.

        What becomes of the template's tokens is not computed to the end; `forward` does that.
        """
        embedded = self.backbone.embed_search(search)
        return self.decode(self.backbone.encode(template_tokens, embedded, template_mask, keep_rate, search_only=True))

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        template_mask: Tensor | None = None,
        keep_rate: float | None = None,
        patch_masks: PatchMasks | None = None,
    ) -> OSTrackOutput:
        """template [B, 6, T, T] and search [B, 6, S, S], normalised.

        patch_masks: with them the output has 2B rows, those of the pictures as they are and then those with hidden
        patches, computed as one batch.
        """
        if patch_masks is None:
            tokens = (self.backbone.embed_template(template), self.backbone.embed_search(search))
            return self.decode(self.backbone.encode(*tokens, template_mask, keep_rate))
        return self.decode(self.backbone.encode_masked(template, search, patch_masks, template_mask, keep_rate))
