"""Fusion of two modalities by a graph of their tokens (GDSTrack, IJCAI 2025, sec. 3.2).

Every token of the visible and the infrared stream is a node. `AdjacencyGenerator` decides which nodes are neighbours;
`GraphFusion` is two layers of graph attention over these neighbours (Velickovic et al., ICLR 2018).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import FuseOptions, Product, fused_form_of


class AdjacencyGenerator(nn.Module):
    """Neighbours of every token: those that a learned product and the cosine call most similar.

    Being a neighbour or not has no gradient: the two layers keep their initial values, and are not trained.

    Args:
        width: Channels of a token.
        hidden: Channels of the two projections.
        neighbours: Tokens that each token chooses.
        threshold: Similarity above which a token takes part in the softmax that ranks it higher.
    """

    def __init__(self, width: int, hidden: int, neighbours: int, threshold: float) -> None:
        super().__init__()
        self.neighbours, self.threshold = neighbours, threshold
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.requires_grad_(False)

    def similarities(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity of every pair.

        Args:
            tokens: [B, N, C].

        Returns:
            Scaled product of the projections, and cosine; both [B, N, N].
        """
        first, second = self.linear1(tokens), self.linear2(tokens)
        unit = F.normalize(tokens, dim=2)
        return first @ second.transpose(1, 2) / first.shape[2] ** 0.5, unit @ unit.transpose(1, 2)

    @torch.no_grad()
    def select(self, tokens: Tensor) -> Tensor:
        """The tokens that each token chooses.

        Args:
            tokens: [B, N, C].

        Returns:
            [B, N, N] bool, `neighbours` of each row True.
        """
        ranking = rank(*self.similarities(tokens), self.threshold)
        places = ranking.topk(min(self.neighbours, ranking.shape[2]), dim=2, sorted=False).indices
        return torch.zeros_like(ranking, dtype=torch.bool).scatter_(2, places, True)

    def forward(self, tokens: Tensor) -> Tensor:
        """Neighbours.

        Args:
            tokens: [B, N, C].

        Returns:
            [B, N, N] bool and symmetric: one of the two chose the other.
        """
        selected = self.select(tokens)
        return selected | selected.transpose(1, 2)


def rank(product: Tensor, cosine: Tensor, threshold: float) -> Tensor:
    """By what neighbours are chosen: the mean similarity, and a softmax of the product over similar tokens.

    A row without a similar token is ranked by the mean alone; the published code would give NaN.

    Args:
        product, cosine: [B, N, N], see `AdjacencyGenerator.similarities`.
        threshold: Of the mean similarity, which is scaled to 0..1.

    Returns:
        [B, N, N], at least float32.
    """
    mean = (product + cosine + 1) / 2
    # The softmax of equal scores is a constant, which leaves the order of such a row to the mean.
    similar = product.masked_fill(mean <= threshold, torch.finfo(product.dtype).min)
    return similar.softmax(dim=2) + mean


@fused_form_of(AdjacencyGenerator)
class FusedAdjacency(AdjacencyGenerator):
    """An `AdjacencyGenerator` for inference, in float32 whatever the format of the tokens: ranks are close together.

    In half formats, where single neighbours change anyway, the projections are joined:
    ``(W1 x + b1) (W2 y + b2) = (W2' W1 x + W2' b1) y + b2 W1 x + b1 b2`` takes a quarter of the operations.
    """

    row: Tensor

    def __init__(self, generator: AdjacencyGenerator, options: FuseOptions) -> None:
        nn.Module.__init__(self)
        self.neighbours, self.threshold = generator.neighbours, generator.threshold
        exact = replace(options, dtype=torch.float32)
        first, second = generator.linear1, generator.linear2
        self.joined = options.dtype != torch.float32
        self.scale = first.out_features**-0.5
        w1, b1, w2, b2 = (t.detach() for t in (first.weight, first.bias, second.weight, second.bias))
        if not self.joined:
            self.first, self.second = Product(w1, b1, exact), Product(w2, b2, exact)
            return
        w1, b1, w2, b2 = (t.double() * self.scale**0.5 for t in (w1, b1, w2, b2))
        self.first = Product((w2.t() @ w1).float(), (w2.t() @ b1).float(), exact)
        self.register_buffer("row", torch.cat([w1.t() @ b2, (b1 @ b2)[None]]).float(), persistent=False)

    def similarities(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        tokens = tokens.float()
        unit = F.normalize(tokens, dim=2)
        if self.joined:
            product = self.first(tokens) @ tokens.transpose(1, 2) + (tokens @ self.row[:-1, None] + self.row[-1])
        else:
            product = self.first(tokens) @ self.second(tokens).transpose(1, 2) * self.scale
        return product, unit @ unit.transpose(1, 2)


class GraphAttention(nn.Module):
    """A layer of graph attention with one head; names as published.

    The score of a pair is the sum of a term of each node, so that no pair of features is ever laid side by side.

    Args:
        inputs, outputs: Channels of a node before and after.
        slope: Of the leaky ReLU of scores below zero.
        dropout: Rate for the attention weights.
    """

    def __init__(self, inputs: int, outputs: int, slope: float, dropout: float) -> None:
        super().__init__()
        self.slope, self.dropout = slope, dropout
        self.W = nn.Parameter(torch.empty(inputs, outputs))
        self.a = nn.Parameter(torch.empty(2 * outputs, 1))
        for parameter in (self.W, self.a):
            nn.init.xavier_uniform_(parameter, gain=1.414)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Gather from neighbours.

        Args:
            nodes: [B, N, inputs].
            edges: [B, N, N] bool, at least one True in each row.

        Returns:
            [B, N, outputs].
        """
        values = nodes @ self.W
        own, other = (values @ self.a.view(2, -1).t()).split(1, dim=2)
        weights = attention_weights(own, other.transpose(1, 2), edges, self.slope)
        return F.dropout(weights, self.dropout, self.training) @ values


def attention_weights(own: Tensor, other: Tensor, edges: Tensor, slope: float) -> Tensor:
    """Softmax of the leaky sum of two terms over the neighbours of each node.

    Args:
        own: [B, N, 1], the node's term.
        other: [B, 1, N], its neighbours'.
        edges: [B, N, N] bool.
        slope: Of the leaky ReLU.

    Returns:
        [B, N, N].
    """
    scores = F.leaky_relu(own + other, slope)
    return torch.where(edges, scores, torch.finfo(scores.dtype).min).softmax(dim=2)


@fused_form_of(GraphAttention)
class FusedGraphAttention(nn.Module):
    """A `GraphAttention` for inference: one product gives values and both terms of the scores."""

    def __init__(self, layer: GraphAttention, options: FuseOptions) -> None:
        super().__init__()
        self.slope = layer.slope
        weight, terms = layer.W.detach(), layer.a.detach().view(2, -1)
        self.width = weight.shape[1]
        joint = torch.cat([weight.t().double(), terms.double() @ weight.t().double()])
        self.product = Product(joint.to(weight.dtype), None, options)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """As `GraphAttention.forward`."""
        values, own, other = self.product(nodes).split([self.width, 1, 1], dim=2)
        return attention_weights(own, other.transpose(1, 2), edges, self.slope) @ values


class GraphFusion(nn.Module):
    """Two layers of graph attention; names as published.

    Args:
        width, hidden, outputs: Channels of a node before, between and after the layers.
        slope, dropout: Of `GraphAttention`; nodes are dropped out before each layer as well.
    """

    def __init__(self, width: int, hidden: int, outputs: int, slope: float, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention_0 = GraphAttention(width, hidden, slope, dropout)
        self.out_att = GraphAttention(hidden, outputs, slope, dropout)

    def forward(self, nodes: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Both levels.

        Args:
            nodes: [B, N, width].
            edges: [B, N, N] bool.

        Returns:
            [B, N, hidden] after the first layer, [B, N, outputs] after the second.
        """
        nodes = F.dropout(nodes, self.dropout, self.training)
        first = F.elu(self.attention_0(nodes, edges))
        second = self.out_att(F.dropout(first, self.dropout, self.training), edges)
        return first, F.elu(second)
