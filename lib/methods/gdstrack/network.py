"""GDSTrack (Li et al., IJCAI 2025): one ViT for two streams, a graph of their tokens, and a diffusion of their fusion.

Names of modules are those of published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from lib.models.backbones import PairedViT
from lib.models.fusion import (
    AdjacencyGenerator,
    Conditions,
    DenoisingUNet,
    Diffusion,
    DiffusionDraws,
    GraphFusion,
    UNetSize,
)
from lib.models.heads import Candidates, CornerHead
from lib.models.layers import FuseOptions, Product, sample_pictures, with_fused_children
from lib.ranges import Count, Range, Rate, Share


@dataclass(frozen=True)
class FusionOptions:
    """Sizes of all that follows the encoder; the defaults are the published ones.

    Attributes:
        hidden_dim: Channels of the fused map.
        graph_dim: Channels of the graph's first level.
        adjacency_dim, neighbours, threshold: See `AdjacencyGenerator`.
        slope, dropout: Of the graph attention.
        head_channels: Width of the heads' first convolution.
        unet: Size of the UNet.
    """

    hidden_dim: Count = 256
    graph_dim: Count = 128
    adjacency_dim: Count = 2048
    neighbours: Count = 256
    threshold: Share = 0.5
    slope: Share = 0.2
    dropout: Rate = 0.4
    head_channels: Annotated[int, Range(8)] = 256
    unet: UNetSize = UNetSize()


@dataclass(frozen=True, slots=True)
class Fused:
    """Both streams of a search region, fused by the graph.

    Attributes:
        tokens: [B, 2, N, C], the encoder's.
        level: [B, graph_dim, g, g], map of the graph's first level.
        map: [B, hidden_dim, g, g].
    """

    tokens: Tensor
    level: Tensor
    map: Tensor


@dataclass(frozen=True, slots=True)
class GDSTrackOutput:
    """Output for one search region.

    Attributes:
        candidates: The box that counts; at test time that of the head with the larger confidence.
        heads: Candidates of each head that was run, the graph's first.
        diffusion_loss: Sum of squared errors of the diffusion over its number of elements, in training.
    """

    candidates: Candidates
    heads: tuple[Candidates, ...]
    diffusion_loss: Tensor | None = None


class GDSTrack(nn.Module):
    """The network of GDSTrack (sec. 3).

    A training step is one of stage 1 if the diffusion is frozen or absent: it reads the first search region alone.
    Otherwise it is one of stage 2, which finds the target in the second search region, and takes the first as the
    distractor. Frozen parts leave no graph.

    Args:
        backbone: The encoder.
        options: Sizes of everything else.
        samples, noise_level: Of a prediction of the diffusion, see `Diffusion`; 0 samples: stage 1, which has none.

    Raises:
        ValueError: The search region's grid cannot be halved as often as the UNet does.

    Attributes:
        streams: 2, visible and infrared.
        noise_shape: Of the noise that `locate` starts from, per row; () in stage 1.
    """

    streams = 2

    def __init__(self, backbone: PairedViT, options: FusionOptions, samples: int, noise_level: str) -> None:
        super().__init__()
        width, hidden = backbone.width, options.hidden_dim
        self.backbone = backbone
        graph = options.adjacency_dim, options.neighbours, options.threshold
        self.generate_adjacency = AdjacencyGenerator(width, *graph)
        self.GAT_Branch = GraphFusion(width, options.graph_dim, hidden, options.slope, options.dropout)
        self.projector1: nn.Module = nn.Linear(width, hidden)
        self.head: nn.Module = CornerHead(hidden, options.head_channels, score="product")
        self.noise_shape: tuple[int, ...] = ()
        if samples:
            grid, halvings = backbone.grid_search, len(options.unet.multipliers) - 1
            if grid % 2**halvings:
                found = f"a search region of {grid} x {grid} cells (SEARCH.SIZE and TEST.SEARCH_SIZE)"
                wanted = f"{halvings} times, as MODEL.FUSION.UNET.MULTIPLIERS asks for"
                raise ValueError(f"{found} cannot be halved {wanted}")
            self.noise_shape = samples, hidden, grid, grid
            self.projector2: nn.Module = nn.Linear(width, hidden)
            unet = DenoisingUNet(options.unet, hidden, options.graph_dim)
            self.lddiffuse_x = Diffusion(unet, samples, noise_level)
            self.head_diffuse: nn.Module = CornerHead(hidden, options.head_channels, score="product")

    def encode_template(self, template: Tensor) -> Tensor:
        """Once per target: [B, 6, T, T] normalised -> tokens [B, 2, 1 + Nz, C]."""
        return self.backbone.embed_template(template)

    def fuse(self, template_tokens: Tensor, search: Tensor) -> Fused:
        """Encode both streams and fuse them by the graph.

        Args:
            template_tokens: [B, 2, 1 + Nz, C], from `encode_template`.
            search: [B, 6, S, S], normalised.
        """
        tokens = self.backbone.encode(template_tokens, self.backbone.embed_search(search))
        nodes = tokens.flatten(1, 2)
        first, second = self.GAT_Branch(nodes, self.generate_adjacency(nodes))
        projected = self.projector1(tokens.sum(dim=1))
        return Fused(tokens, self._map(_both(first)), self._map(_both(second) + projected))

    def conditions(self, fused: Fused) -> Conditions:
        """The conditions of the diffusion."""
        visible, infrared = self.projector2(fused.tokens).unbind(1)
        return Conditions(self._map(visible), self._map(infrared), fused.level)

    def _map(self, tokens: Tensor) -> Tensor:
        """[B, N, C] -> [B, C, g, g]."""
        grid = self.backbone.grid_search
        return tokens.transpose(1, 2).unflatten(2, (grid, grid))

    def locate(self, tokens: Tensor, search: Tensor, noise: Tensor | None = None) -> GDSTrackOutput:
        """Once per frame.

        Args:
            tokens: [B, 2, 1 + Nz, C], from `encode_template`.
            search: [B, 6, S, S], normalised.
            noise: [B, *noise_shape], normal; None in stage 1.
        """
        fused = self.fuse(tokens, search)
        graph: Candidates = self.head(fused.map)
        if not self.noise_shape:
            return GDSTrackOutput(graph, (graph,))
        assert noise is not None
        diffused: Candidates = self.head_diffuse(self.lddiffuse_x(self.conditions(fused), noise))
        return GDSTrackOutput(better(graph, diffused), (graph, diffused))

    @property
    def stage(self) -> int:
        """The stage of a training step: 2 where the diffusion is trained."""
        return 2 if self.noise_shape and any(p.requires_grad for p in self.lddiffuse_x.parameters()) else 1

    def forward(self, template: Tensor, search: Tensor, draws: DiffusionDraws | None = None) -> GDSTrackOutput:
        """The form of training.

        Args:
            template: [B, 6, T, T], normalised.
            search: [B, Ns, 6, S, S], normalised; stage 1 reads the first one, stage 2 the first two.
            draws: Random numbers of the diffusion; None: fresh ones.
        """
        template_tokens = self.encode_template(template)
        if self.stage == 1:
            graph: Candidates = self.head(self.fuse(template_tokens, search[:, 0]).map)
            return GDSTrackOutput(graph, (graph,))
        both = self.fuse(template_tokens.repeat(2, 1, 1, 1), search[:, :2].transpose(0, 1).flatten(0, 1))
        distractor, fused = both.map.chunk(2)
        present = Fused(*(t.chunk(2)[1] for t in (both.tokens, both.level, both.map)))
        heads: list[Candidates] = []
        if self.head.training:
            # No loss reads this box, but published training updates the head's running averages.
            with torch.no_grad():
                heads.append(self.head(fused))
        draws = DiffusionDraws.draw(fused) if draws is None else draws
        clean, error = self.lddiffuse_x.learn(fused, distractor, self.conditions(present), draws)
        heads.append(self.head_diffuse(clean))
        return GDSTrackOutput(heads[-1], tuple(heads), error / clean.numel())

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of both entry points, two rows each, pictures in uint8; see `lib.deploy.graphs`."""
        backbone, generator = self.backbone, torch.Generator().manual_seed(0)
        tokens = torch.randn(2, 2, 1 + backbone.grid_template**2, backbone.width, generator=generator)
        locate = {"tokens": tokens, "search": sample_pictures(6, backbone.search_size)}
        if self.noise_shape:
            locate["noise"] = torch.randn(2, *self.noise_shape, generator=generator)
        return {"encode_template": {"template": sample_pictures(6, backbone.template_size)}, "locate": locate}

    def fuse_for_inference(self, options: FuseOptions) -> GDSTrack:
        """For inference; see `lib.models.layers.fused`."""
        twin = with_fused_children(self, replace(options, grid=self.backbone.grid_search))
        for name in ("projector1", "projector2") if self.noise_shape else ("projector1",):
            layer = cast("nn.Linear", self.get_submodule(name))
            setattr(twin, name, Product(layer.weight, layer.bias, options))
        return twin


def _both(nodes: Tensor) -> Tensor:
    """Sum of the streams' nodes: [B, 2 N, C] -> [B, N, C]."""
    return nodes.unflatten(1, (2, -1)).sum(dim=1)


def better(graph: Candidates, diffused: Candidates) -> Candidates:
    """The graph's box where its confidence is larger, otherwise the diffusion's, row by row; NaN if either is NaN."""
    first = graph.scores > diffused.scores
    maps = {n: torch.where(first.view(-1, *[1] * (a.ndim - 1)), a, diffused.maps[n]) for n, a in graph.maps.items()}
    boxes = torch.where(first[:, :, None], graph.boxes, diffused.boxes)
    return Candidates(torch.maximum(graph.scores, diffused.scores), boxes, maps)
