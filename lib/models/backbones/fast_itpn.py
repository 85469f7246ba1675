"""Fast-iTPN for RGB-X tracking (CSTrack, ICML 2025, after SUTrack): a stem per picture, one encoder for all tokens.

The stem is shared by RGB and the second modality, by templates and search regions; they lie under one another in one
batch. Between stem and encoder, modalities are made one by the method.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lib.models.layers.blocks import EPS, ScaledBlock, trunc_normal_linears
from lib.models.layers.fused import FuseOptions, with_fused_children
from lib.models.layers.stem import ConvBlock, ConvStem, Merge, PatchEmbed, run_stem

PRETRAINED_GRID = 14
"""Side of the position embedding that pre-training leaves, of pictures of 224 pixels."""


class FastITPN(nn.Module):
    """width: of a token; a quarter and half of it in the stem. depths: blocks at the three scales.

    stride: of all; the first convolution's patches are a quarter of it, and two mergings follow. conv_stem: overlapping
    convolutions instead of patches and perceptrons, for small networks that start from random weights. checkpointing:
    in training, blocks of the encoder keep their input alone and are computed again in the backward pass.
    `pos_embed` takes no part in the forward pass; it is kept since published checkpoints have it, and since the class
    token of some is to be found there (see `lib.methods.cstrack.pretrained`).
    """

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        heads: int,
        stride: int,
        template_size: int,
        search_size: int,
        *,
        templates: int = 2,
        mlp_ratio: float = 3.0,
        drop_path: float = 0.0,
        conv_stem: bool = False,
        init_std: float = 0.02,
        similar_queries: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.patch, self.stride = width, stride // 4, stride
        self.init_std, self.checkpointing = init_std, checkpointing
        check_sizes(width, depths, stride, template_size, search_size)
        self.template_size, self.search_size = template_size, search_size
        self.grid_template, self.grid_search = template_size // stride, search_size // stride
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        fine, middle, _ = depths
        stem: list[nn.Module] = []
        if conv_stem:
            self.patch_embed: PatchEmbed | ConvStem = ConvStem(stride, width)
        else:
            self.patch_embed = PatchEmbed(self.patch, width // 4)
            stem = [ConvBlock(width // 4, mlp_ratio, rates[i]) for i in range(fine)] + [Merge(width // 4)]
            stem += [ConvBlock(width // 2, mlp_ratio, rates[fine + i]) for i in range(middle)] + [Merge(width // 2)]
        blocks = [ScaledBlock(width, heads, mlp_ratio, rate) for rate in rates[fine + middle :]]
        self.stem_length = len(stem)
        self.blocks = nn.ModuleList([*stem, *blocks])
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + PRETRAINED_GRID**2, width))
        self.pos_embed_z = nn.Parameter(torch.zeros(1, templates * self.grid_template**2, width))
        self.pos_embed_x = nn.Parameter(torch.zeros(1, self.grid_search**2, width))
        for name in ("search", "template_fg", "template_bg"):
            self.register_parameter(f"token_type_{name}", nn.Parameter(torch.zeros(1, 1, width)))
        self._initialise(similar_queries)

    def _initialise(self, similar_queries: bool) -> None:
        trunc_normal_linears(self, self.init_std)
        for position in (self.pos_embed, self.pos_embed_z, self.pos_embed_x):
            nn.init.trunc_normal_(position, std=0.02)
        if similar_queries:
            for block in self.encoder():
                block.attn.tie_queries_to_keys()

    def stem(self) -> list[nn.Module]:
        """Blocks of the stem, behind `patch_embed`."""
        return list(self.blocks)[: self.stem_length]

    def encoder(self) -> Iterable[ScaledBlock]:
        """Blocks over all tokens."""
        return cast("Iterable[ScaledBlock]", list(self.blocks)[self.stem_length :])

    def embed(self, pictures: Tensor) -> Tensor:
        """pictures [R, 6, S, S], RGB and then aux -> tokens [R, 2, N, C] of both, without types and positions."""
        if pictures.shape[1] != 6:
            raise ValueError(f"pictures of 6 channels are expected (RGB, then aux), not of {pictures.shape[1]}")
        images = pictures.unflatten(1, (2, 3)).flatten(0, 1)
        if isinstance(self.patch_embed, ConvStem) or not self.stem_length:
            tokens = self.patch_embed(images)
        else:
            tokens = run_stem(self.patch_embed, self.stem(), self.patch, images)
        return tokens.unflatten(0, (-1, 2))

    def type_search(self, tokens: Tensor) -> Tensor:
        """Search tokens [..., C] with what marks them as such."""
        return tokens + self.get_parameter("token_type_search")[0, 0]

    def type_template(self, tokens: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
        """Template tokens [R, 2, N, C] with shares [R, N] of what marks the target and what marks its surroundings."""
        marks = torch.stack([self.get_parameter(f"token_type_template_{kind}")[0, 0] for kind in ("fg", "bg")])
        shares = torch.stack([foreground, background], dim=-1).to(marks)
        return tokens + (shares @ marks)[:, None]

    def encode(self, tokens: Tensor, first: int = 0) -> Tensor:
        """tokens [R, N, C], positions added -> normalised [R, N - first, C], those from `first` on."""
        *blocks, last = self.encoder()
        for block in blocks:
            tokens = self._run(block, tokens)
        return self.norm(self._run(last, tokens, first))

    def _run(self, block: nn.Module, tokens: Tensor, first: int = 0) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(block, tokens, first, use_reentrant=False))
        return cast("Tensor", block(tokens, first))

    def fuse_for_inference(self, options: FuseOptions) -> FastITPN:
        """For inference; see `lib.models.layers.fused`."""
        return with_fused_children(self, options)


def check_sizes(width: int, depths: tuple[int, ...], stride: int, template_size: int, search_size: int) -> None:
    """Raises ValueError for what cannot be built."""
    if len(depths) != 3 or min(depths) < 0 or depths[2] < 1:
        raise ValueError(f"DEPTHS {list(depths)}: three numbers are expected, the last one at least 1")
    if width % 4 or stride % 4:
        raise ValueError(f"EMBED_DIM {width} and STRIDE {stride} must be multiples of 4")
    for name, size in (("template", template_size), ("search", search_size)):
        if size % stride:
            raise ValueError(f"{name} size {size} is not a multiple of the stride {stride}")
