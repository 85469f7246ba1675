"""Fast-iTPN for RGB-X tracking (CSTrack, ICML 2025, after SUTrack): a stem per picture, one encoder for all tokens.

The stem is shared by RGB and the second modality, by templates and search regions, which are rows of one batch. Between
stem and encoder, the method joins the modalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lib.models.layers.blocks import EPS, ScaledBlock, linear_std, trunc_normal_linears
from lib.models.layers.stem import ConvBlock, ConvStem, Merge, PatchEmbed
from lib.ranges import Count, CountOrNone, Positive, Rate, Side

PRETRAINED_GRID = 14
"""Side of the position embedding that pre-training leaves, of pictures of 224 pixels."""
TEMPLATES = 2


@dataclass(frozen=True)
class ITPNOptions:
    """Size of a Fast-iTPN; the defaults are Fast-iTPN-B.

    Attributes:
        embed_dim: Width of a token; the stem has a quarter and half of it.
        depths: Blocks at the three scales; those of the stem do not count with `conv_stem`.
        num_heads: Heads of the encoder's attention.
        stride: Side in pixels of what a token stands for. The first convolution's patches are a quarter of it, and two
            mergings follow.
        template_size, search_size: Sides of the pictures in pixels.
        mlp_ratio: Hidden width of perceptrons by that of tokens.
        drop_path: Rate of stochastic depth in the last block; it grows linearly from 0.
        conv_stem: Overlapping convolutions instead of patches and perceptrons, for small networks.
        from_scratch: Fresh weights for training without pre-training: as `ViTOptions.from_scratch`, and queries equal
            keys, so that tokens first attend to similar tokens (after Trockman and Kolter, ICML 2023), by which
            template matching is learned sooner.
    """

    embed_dim: Count = 512
    depths: tuple[CountOrNone, ...] = (3, 3, 24)
    num_heads: Count = 8
    stride: Count = 16
    template_size: Side = 128
    search_size: Side = 256
    mlp_ratio: Positive = 3.0
    drop_path: Rate = 0.0
    conv_stem: bool = False
    from_scratch: bool = False

    def __post_init__(self) -> None:
        if len(self.depths) != 3 or min(self.depths) < 0 or self.depths[2] < 1:
            raise ValueError(f"DEPTHS {list(self.depths)}: three numbers are expected, the last one at least 1")
        if self.embed_dim % 4 or self.stride % 4:
            raise ValueError(f"EMBED_DIM {self.embed_dim} and STRIDE {self.stride} must be multiples of 4")


class FastITPN(nn.Module):
    """Stem per picture, then an encoder (Tian et al., TPAMI 2024).

    `pos_embed` takes no part in the forward pass; it is kept since published checkpoints have it, and since the class
    token of some is to be found there (see `adapt_fast_itpn` in `lib.methods.cstrack`).

    Attributes:
        checkpointing: In training, blocks of the encoder keep only their input and are computed again in the backward
            pass.
    """

    def __init__(self, options: ITPNOptions) -> None:
        super().__init__()
        width, stride, (fine, middle, _) = options.embed_dim, options.stride, options.depths
        self.width, self.patch, self.stride = width, stride // 4, stride
        self.init_std, self.checkpointing = linear_std(width, options.from_scratch), False
        self.template_size, self.search_size = options.template_size, options.search_size
        self.grid_template, self.grid_search = self.template_size // stride, self.search_size // stride
        rates = torch.linspace(0, options.drop_path, sum(options.depths), device="cpu").tolist()
        ratio = options.mlp_ratio
        stem: list[nn.Module] = []
        if options.conv_stem:
            self.patch_embed: PatchEmbed | ConvStem = ConvStem(stride, width)
        else:
            self.patch_embed = PatchEmbed(self.patch, width // 4)
            stem = [ConvBlock(width // 4, ratio, rates[i]) for i in range(fine)] + [Merge(width // 4)]
            stem += [ConvBlock(width // 2, ratio, rates[fine + i]) for i in range(middle)] + [Merge(width // 2)]
        blocks = [ScaledBlock(width, options.num_heads, ratio, rate) for rate in rates[fine + middle :]]
        self.stem_length = len(stem)
        self.blocks = nn.ModuleList([*stem, *blocks])
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + PRETRAINED_GRID**2, width))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, TEMPLATES * self.grid_template**2, width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.grid_search**2, width))
        for name in ("search", "template_fg", "template_bg"):
            self.register_parameter(f"token_type_{name}", nn.Parameter(torch.zeros(1, 1, width)))
        trunc_normal_linears(self, self.init_std)
        for position in (self.pos_embed, self.pos_embed_z, self.pos_embed_x):
            nn.init.trunc_normal_(position, std=0.02)
        if options.from_scratch:
            for block in blocks:
                block.attn.tie_queries_to_keys()

    def embed(self, pictures: Tensor) -> Tensor:
        """Tokens of both modalities, without types and positions.

        Args:
            pictures: [R, 6, S, S] normalised, RGB and then the second modality.

        Returns:
            [R, 2, N, C], row-major.

        Raises:
            ValueError: The pictures have not 6 channels.
        """
        if pictures.shape[1] != 6:
            raise ValueError(f"pictures of 6 channels are expected (RGB, then aux), not of {pictures.shape[1]}")
        tokens = self.patch_embed(pictures.unflatten(1, (2, 3)).flatten(0, 1))
        if self.stem_length:
            grid = pictures.shape[-1] // self.patch
            x = tokens.unflatten(1, (grid, grid))
            for block in list(self.blocks)[: self.stem_length]:
                x = block(x)
            tokens = x.flatten(1, 2)
        return tokens.unflatten(0, (-1, 2))

    def type_search(self, tokens: Tensor) -> Tensor:
        """Search tokens with the embedding that marks them as such.

        Args:
            tokens: [..., C].

        Returns:
            [..., C].
        """
        return tokens + self.get_parameter("token_type_search")[0, 0]

    def type_template(self, tokens: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
        """Template tokens with the embeddings that mark target and surroundings.

        Args:
            tokens: [R, 2, N, C].
            foreground, background: [R, N] in 0..1, the weights of the two embeddings.

        Returns:
            [R, 2, N, C].
        """
        marks = torch.stack([self.get_parameter(f"token_type_template_{kind}")[0, 0] for kind in ("fg", "bg")])
        shares = torch.stack([foreground, background], dim=-1).to(marks)
        return tokens + (shares @ marks)[:, None]

    def encode(self, tokens: Tensor, first: int = 0) -> Tensor:
        """The encoder over all tokens.

        Args:
            tokens: [R, N, C], positions added.
            first: Tokens before this one are left out of the output.

        Returns:
            [R, N - first, C], normalised.
        """
        blocks = cast("list[ScaledBlock]", list(self.blocks)[self.stem_length :])
        again = self.checkpointing and self.training and torch.is_grad_enabled()
        for i, block in enumerate(blocks, 1):
            start = first if i == len(blocks) else 0
            tokens = checkpoint(block, tokens, start, use_reentrant=False) if again else block(tokens, start)
        return self.norm(tokens)
