"""Objective of masked appearance transfer: predict the hidden patches (MAT, CVPR 2023, sec. 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.data import Batch
from lib.methods.mat.config import MATConfig
from lib.methods.mat.network import AppearanceTransfer
from lib.models.backbones import Masking, to_patches
from lib.objectives import Losses, Progress


class TransferObjective:
    """Squared errors of the hidden patches of template and search region.

    A batch has two templates: the one that is read, and the target as it looks in the search region, which is to be
    predicted. With TRAIN.TRANSFER off, the first is to be predicted as well.
    """

    def __init__(self, config: MATConfig, network: nn.Module) -> None:
        self.target = 1 if config.train.transfer else 0
        self.norm_pix_loss = config.train.norm_pix_loss

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        return self.learn(network, batch)

    def learn(self, network: nn.Module, batch: Batch, noise: tuple[Tensor, Tensor] | None = None) -> Losses:
        """As a call, with given noise of the masks; see `AppearanceTransfer.forward`."""
        search = batch.search[:, 0]
        predicted = network(batch.template[:, 0], search, noise)
        template = self.error(predicted.template, batch.template[:, self.target], predicted.template_masking)
        whole = self.error(predicted.search, search, predicted.search_masking)
        return Losses(template + whole, {"Loss/template": template, "Loss/search": whole})

    def error(self, predicted: Tensor, target: Tensor, masking: Masking) -> Tensor:
        """Mean squared error of the hidden patches.

        Args:
            predicted: [B, N, P].
            target: [B, 3, S, S] normalised picture.
            masking: Which patches were hidden.
        """
        patch = round((predicted.shape[2] / 3) ** 0.5)
        wanted = to_patches(target, patch).float()
        if self.norm_pix_loss:
            wanted = (wanted - wanted.mean(2, keepdim=True)) / (wanted.var(2, keepdim=True) + 1e-6).sqrt()
        hidden = masking.hidden
        return ((predicted.float() - wanted).square().mean(2) * hidden).sum() / hidden.sum()

    @torch.no_grad()
    def pictures(self, network: AppearanceTransfer, batch: Batch) -> dict[str, Tensor]:
        """Pictures that the network reads, predicts and should predict, for a person; masks are the same at every call.

        Args:
            network: The one that learns.
            batch: Normalised.

        Returns:
            ``template_in``, ``template_out``, ``template_predicted``, ``search`` and ``search_predicted``, each
            [B, 3, S, S] in 0..1. Hidden patches of what is read are black.
        """
        template, search, model = batch.template[:, 0], batch.search[:, 0], network.autoencoder
        generator, grids = torch.Generator().manual_seed(0), (model.grid_search, model.grid_template)
        noise = [torch.rand(len(search), grid**2, generator=generator).to(search.device) for grid in grids]
        predicted = network(template, search, (noise[0], noise[1]))
        return {
            "template_in": self._shown(network, template, predicted.template_masking),
            "template_out": network.pixels(batch.template[:, self.target]),
            "template_predicted": network.pixels(network.predicted(predicted.template)),
            "search": self._shown(network, search, predicted.search_masking),
            "search_predicted": network.pixels(network.predicted(predicted.search)),
        }

    def _shown(self, network: AppearanceTransfer, picture: Tensor, masking: Masking) -> Tensor:
        """Pictures in 0..1, black where patches are hidden."""
        side = round(masking.order.shape[1] ** 0.5)
        visible = 1 - masking.hidden.view(-1, 1, side, side)
        patch = network.autoencoder.patch
        return network.pixels(picture) * visible.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
