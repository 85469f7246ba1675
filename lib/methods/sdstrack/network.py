"""SDSTrack (Hou et al., CVPR 2024): a frozen RGB tracker made an RGB-X tracker by adapters and fusion."""

from __future__ import annotations

from torch import Tensor

from lib.methods.ostrack.network import OSTrack, OSTrackOutput
from lib.models.backbones import TwoStreamViT
from lib.models.layers import PatchMasks


class SDSTrack(OSTrack):
    """OSTrack's network over pictures of six channels, RGB first; its backbone is a `TwoStreamViT`.

    Module names are those of published checkpoints. streams: 2, RGB and the second modality.
    """

    backbone: TwoStreamViT
    streams = 2

    def locate(self, template_tokens: Tensor, search: Tensor, template_mask: Tensor | None = None) -> OSTrackOutput:
        """Once per frame; the template's tokens are not computed to the end, as they are in `forward`.

        Args:
            template_tokens: [B, 2, Nz, C], from `encode_template`.
            search: [B, 6, S, S], normalised.
            template_mask: [B, Nz], from `template_mask`.
        """
        embedded = self.backbone.embed_search(search)
        return self.decode(self.backbone.encode(template_tokens, embedded, template_mask, search_only=True))

    def forward(
        self,
        template: Tensor,
        search: Tensor,
        template_mask: Tensor | None = None,
        keep_rate: float | None = None,
        patch_masks: PatchMasks | None = None,
    ) -> OSTrackOutput:
        """The form of training.

        Args:
            template: [B, 6, T, T], normalised.
            search: [B, 6, S, S], normalised.
            template_mask, keep_rate: See `OSTrack.forward`.
            patch_masks: Hidden patches. With them the output has 2B rows, those of the pictures as they are and then
                those with hidden patches, computed as one batch.
        """
        if patch_masks is None:
            return super().forward(template, search, template_mask, keep_rate)
        mask = None if template_mask is None else template_mask.repeat(2, 1)
        templates = self.backbone.embed_template(template, patch_masks.template)
        searches = self.backbone.embed_search(search, patch_masks.search)
        return self.decode(self.backbone.encode(templates, searches, mask, keep_rate))
