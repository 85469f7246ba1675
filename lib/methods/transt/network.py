"""TransT (Chen et al., CVPR 2021): a siamese ResNet, fusion by attention alone, a box and a score per cell."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from lib.models.backbones import ResNet
from lib.models.fusion import FeatureFusion, FusionSize
from lib.models.heads import Candidates, Perceptron, dense_candidates
from lib.models.layers import Convolution, FuseOptions, sample_pictures, with_fused_children


class TransT(nn.Module):
    """The network of TransT (sec. 3); module names are those of published checkpoints.

    Args:
        backbone: A ResNet with its last stage left out.
        size: Of the fusion network.
        template_size, search_size: Sides of the pictures in pixels, multiples of the backbone's stride.

    Raises:
        ValueError: A side is no multiple of the stride.
    """

    def __init__(self, backbone: ResNet, size: FusionSize, template_size: int, search_size: int) -> None:
        super().__init__()
        stride = backbone.stride
        for name, side in (("TEMPLATE", template_size), ("SEARCH", search_size)):
            if side % stride:
                keys = f"DATA.{name}.SIZE and TEST.{name}_SIZE"
                raise ValueError(f"{keys} must be multiples of the stride {stride}; {side} is not")
        self.template_size, self.search_size, self.width = template_size, search_size, size.width
        self.grid_template, self.grid_search = template_size // stride, search_size // stride
        # Published: index 0 the feature network, index 1 the position code, which has no parameters.
        self.backbone = nn.ModuleList([nn.ModuleDict({"body": backbone})])
        self.input_proj: nn.Module = nn.Conv2d(backbone.channels, size.width, 1)
        self.featurefusion_network = FeatureFusion(size, self.grid_template, self.grid_search)
        self.class_embed = Perceptron(size.width, size.width, 2)
        self.bbox_embed = Perceptron(size.width, size.width, 4)

    @property
    def body(self) -> ResNet:
        """The ResNet, under its published name ``backbone.0.body``."""
        return cast("ResNet", self.get_submodule("backbone.0.body"))

    def encode_template(self, template: Tensor) -> Tensor:
        """Once per target.

        Args:
            template: [B, 3, T, T], normalised.

        Returns:
            Tokens [B, Nz, C], up to the first cross-attention with the search region.
        """
        return self.featurefusion_network.encode_template(self._tokens(template))

    def locate(self, template_tokens: Tensor, search: Tensor) -> Candidates:
        """Once per frame.

        Args:
            template_tokens: [B, Nz, C], from `encode_template`.
            search: [B, 3, S, S], normalised.

        Returns:
            One candidate per cell, row-major.
        """
        return self._fuse(template_tokens, self._tokens(search))

    def forward(self, template: Tensor, search: Tensor) -> Candidates:
        """The form of training.

        The search region goes through the backbone first: running averages of batch norms depend on the order.

        Args:
            template: [B, 3, T, T], normalised.
            search: [B, 3, S, S], normalised.
        """
        search_tokens = self._tokens(search)
        return self._fuse(self.encode_template(template), search_tokens)

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of both entry points, two rows each, pictures in uint8; see `lib.deploy.graphs`."""
        tokens = torch.randn(2, self.grid_template**2, self.width, generator=torch.Generator().manual_seed(0))
        template, search = (sample_pictures(3, side) for side in (self.template_size, self.search_size))
        return {"encode_template": {"template": template}, "locate": {"tokens": tokens, "search": search}}

    def fuse_for_inference(self, options: FuseOptions) -> TransT:
        """For inference; see `lib.models.layers.fused`."""
        twin = with_fused_children(self, options)
        weight, bias = (self.input_proj.get_parameter(name) for name in ("weight", "bias"))
        twin.input_proj = Convolution(weight, bias, replace(options, grid=self.grid_search))
        return twin

    def _tokens(self, picture: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N, C], row-major."""
        return self.input_proj(self.body(picture)).flatten(2).transpose(1, 2)

    def _fuse(self, template_tokens: Tensor, search_tokens: Tensor) -> Candidates:
        tokens = self.featurefusion_network(template_tokens, search_tokens)
        candidates = dense_candidates(self.class_embed(tokens), self.bbox_embed(tokens).sigmoid())
        feature = tokens.transpose(1, 2).unflatten(2, (self.grid_search, self.grid_search))
        return candidates.with_maps(feature=feature)
