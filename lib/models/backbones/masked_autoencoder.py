"""A masked autoencoder of template and search region (MAT, CVPR 2023), and its weights in other networks.

A ViT encodes the visible patches of both crops together; a smaller one, which sees one crop at a time, predicts the
pixels of all patches. Parameters have the names of MAE (He et al., CVPR 2022), with `z_` in front of what is the
template's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.models.backbones.one_stream_vit import resize_position
from lib.models.layers.attention import sincos_pos_embed
from lib.models.layers.blocks import EPS, Block
from lib.models.layers.stem import PatchEmbed
from lib.ranges import Count, Side

MAT_PREFIX = "backbone.model."
"""In front of all names of a pre-trained file."""
DECODER = ("decoder_", "z_decoder_", "mask_token")
"""Beginnings of the names that an encoder lacks."""


@dataclass(frozen=True)
class AutoencoderOptions:
    """Size of a masked autoencoder; the defaults are those of the published one.

    Attributes:
        embed_dim: Width of a token in the encoder.
        depth, num_heads: Its blocks, and heads of their attention.
        decoder_embed_dim, decoder_depth, decoder_num_heads: The same of the decoder.
        stride: Side of a patch in pixels.
        template_size, search_size: Sides of the pictures in pixels.
    """

    embed_dim: Count = 768
    depth: Count = 12
    num_heads: Count = 12
    decoder_embed_dim: Count = 512
    decoder_depth: Count = 8
    decoder_num_heads: Count = 16
    stride: Count = 16
    template_size: Side = 112
    search_size: Side = 224


@dataclass(frozen=True, slots=True)
class Masking:
    """Visible and hidden patches of crops.

    Attributes:
        order: [B, N] positions of the patches; the first `kept` of a row are visible, in this order.
        kept: Number of visible patches.
    """

    order: Tensor
    kept: int

    @classmethod
    def of_noise(cls, noise: Tensor, ratio: float) -> Masking:
        """Keep the patches with the least noise.

        Args:
            noise: [B, N], usually uniform in [0, 1).
            ratio: Share of hidden patches.
        """
        return cls(noise.argsort(dim=1, stable=True), int(noise.shape[1] * (1 - ratio)))

    @property
    def hidden(self) -> Tensor:
        """[B, N] float32, 1 for a hidden patch."""
        places = torch.ones(self.order.shape, device=self.order.device)
        return places.scatter(1, self.order[:, : self.kept], 0.0)

    def keep(self, tokens: Tensor) -> Tensor:
        """tokens [B, N, C] of all patches -> [B, kept, C]."""
        return tokens.gather(1, self.order[:, : self.kept, None].expand(-1, -1, tokens.shape[2]))

    def restore(self, tokens: Tensor, fill: Tensor) -> Tensor:
        """tokens [B, kept, C] -> [B, N, C] in the order of the patches, with `fill` [1, 1, C] at the hidden ones."""
        batch, count = self.order.shape
        filled = fill.to(tokens.dtype).expand(batch, count, -1)
        return filled.scatter(1, self.order[:, : self.kept, None].expand(-1, -1, tokens.shape[2]), tokens)


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Output of a masked autoencoder.

    Attributes:
        template, search: [B, Nz, P] and [B, Nx, P] predicted pixels, see `to_patches`.
        template_masking, search_masking: Which patches were hidden.
    """

    template: Tensor
    search: Tensor
    template_masking: Masking
    search_masking: Masking


class MaskedAutoencoder(nn.Module):
    """Encoder of both crops, decoder of each by itself.

    Position embeddings are sines and cosines and are not trained; the class token's is zero.

    Args:
        options: Its size.
    """

    def __init__(self, options: AutoencoderOptions) -> None:
        super().__init__()
        width, narrow, self.patch = options.embed_dim, options.decoder_embed_dim, options.stride
        self.width = width
        self.template_size, self.search_size = options.template_size, options.search_size
        self.grid_template, self.grid_search = self.template_size // self.patch, self.search_size // self.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = fixed_positions(self.grid_search, width, prefix=1)
        self.z_pos_embed = fixed_positions(self.grid_template, width)
        self.patch_embed, self.z_patch_embed = PatchEmbed(self.patch, width), PatchEmbed(self.patch, width)
        self.blocks = nn.ModuleList(Block(width, options.num_heads) for _ in range(options.depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.decoder_embed = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_pos_embed = fixed_positions(self.grid_search, narrow, prefix=1)
        self.z_decoder_pos_embed = fixed_positions(self.grid_template, narrow, prefix=1)
        heads = options.decoder_num_heads
        self.decoder_blocks = nn.ModuleList(Block(narrow, heads) for _ in range(options.decoder_depth))
        self.decoder_norm = nn.LayerNorm(narrow, eps=EPS)
        self.decoder_pred = nn.Linear(narrow, 3 * self.patch**2)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, PatchEmbed):
                nn.init.xavier_uniform_(module.proj.weight.data.flatten(1))
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def draw_noise(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Uniform noise for the search region, [B, Nx], and then for the template, [B, Nz], drawn on the device."""
        search = torch.rand(batch, self.grid_search**2, device=device)
        return search, torch.rand(batch, self.grid_template**2, device=device)

    def forward(self, template: Tensor, search: Tensor, noise: tuple[Tensor, Tensor], ratio: float) -> Reconstruction:
        """Predict the pixels of all patches from those that are visible.

        Args:
            template: [B, 3, T, T] normalised.
            search: [B, 3, S, S] normalised.
            noise: As `draw_noise` gives it.
            ratio: Share of hidden patches of either crop.
        """
        search_masking, template_masking = (Masking.of_noise(drawn, ratio) for drawn in noise)
        x = search_masking.keep(self.patch_embed(search) + self.pos_embed[:, 1:])
        z = template_masking.keep(self.z_patch_embed(template) + self.z_pos_embed)
        token = (self.cls_token + self.pos_embed[:, :1]).to(x.dtype).expand(len(x), -1, -1)
        tokens = torch.cat([token, z, x], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        token, z, x = tokens.split([1, template_masking.kept, search_masking.kept], dim=1)
        z = self.decode(torch.cat([token, z], dim=1), template_masking, self.z_decoder_pos_embed)
        x = self.decode(torch.cat([token, x], dim=1), search_masking, self.decoder_pos_embed)
        return Reconstruction(z, x, template_masking, search_masking)

    def decode(self, tokens: Tensor, masking: Masking, positions: Tensor) -> Tensor:
        """The pixels of one crop.

        Args:
            tokens: [B, 1 + kept, C] encoded class token and visible patches.
            masking: Their places.
            positions: [1, 1 + N, D] position embeddings.

        Returns:
            [B, N, P], see `to_patches`.
        """
        y = self.decoder_embed(tokens)
        y = torch.cat([y[:, :1], masking.restore(y[:, 1:], self.mask_token)], dim=1) + positions
        for block in self.decoder_blocks:
            y = block(y)
        return self.decoder_pred(self.decoder_norm(y))[:, 1:]


def fixed_positions(grid: int, width: int, prefix: int = 0) -> nn.Parameter:
    """Sine and cosine position embeddings that are not trained.

    Args:
        grid: Side of the grid in cells.
        width: Of a token.
        prefix: Number of tokens before those of the grid; their embedding is zero.

    Returns:
        [1, prefix + grid * grid, width].
    """
    table = torch.cat([torch.zeros(prefix, width), sincos_pos_embed(grid, width)])
    return nn.Parameter(table[None], requires_grad=False)


def to_patches(pictures: Tensor, patch: int) -> Tensor:
    """Pictures [B, 3, H, W] -> [B, N, P], patches row-major, of each its rows, columns and then channels."""
    b, c, h, w = pictures.shape
    return pictures.view(b, c, h // patch, patch, w // patch, patch).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def to_pictures(patches: Tensor, patch: int) -> Tensor:
    """The inverse of `to_patches` for square pictures: [B, N, P] -> [B, 3, S, S]."""
    side = round(patches.shape[1] ** 0.5)
    grid = patches.view(len(patches), side, side, patch, patch, 3)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), 3, side * patch, side * patch)


def encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder of a pre-trained file of MAT.

    Args:
        state: Its state dict.

    Returns:
        Names as in `MaskedAutoencoder` -> tensors; empty for a file of another kind.
    """
    own = {name.removeprefix(MAT_PREFIX): v for name, v in state.items() if name.startswith(MAT_PREFIX)}
    return {name: v for name, v in own.items() if not name.startswith(DECODER)} if "z_pos_embed" in own else {}


def resize_table(table: Tensor, grid: int, prefix: int = 0) -> Tensor:
    """Position table of another grid: bicubic, corner cells stay at the corners (GDSTrack, IJCAI 2025).

    Args:
        table: [1, prefix + g * g, C].
        grid: Side of the new grid in cells.
        prefix: Number of tokens before those of the grid; they stay as they are.

    Returns:
        [1, prefix + grid * grid, C].

    Raises:
        ValueError: The table is of no square grid.
    """
    return torch.cat([table[:, :prefix], resize_position(table, grid, prefix, align_corners=True)], dim=1)


def paired_weights(
    encoder: Mapping[str, Tensor], grid_template: int, grid_search: int, other: str = "_p"
) -> dict[str, Tensor]:
    """An encoder's weights for a network of two streams that share its blocks (GDSTrack, IJCAI 2025).

    Args:
        encoder: From `encoder_weights`.
        grid_template, grid_search: Sides of the network's grids in cells.
        other: End of the names of the second stream.

    Returns:
        Blocks; patches, class token and last norm for both streams; position tables, resized, for the first alone:
        those of the second stay what they were.
    """
    state = {name: v for name, v in encoder.items() if not name.endswith("pos_embed")}
    for name, value in list(state.items()):
        if not name.startswith("blocks."):
            first, dot, rest = name.partition(".")
            state[f"{first}{other}{dot}{rest}"] = value
    state["pos_embed"] = resize_table(encoder["pos_embed"], grid_search, prefix=1)
    state["z_pos_embed"] = resize_table(encoder["z_pos_embed"], grid_template)
    return state
