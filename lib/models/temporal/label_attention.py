"""Transformer of TrDiMP (Wang et al., CVPR 2021, sec. 4): images of a target attend to each other and to their labels.

Tokens are cells of feature maps. Queries and keys are unit vectors by one linear layer, values are not projected. Since
products of unit vectors lie in -1..1, weights are ``exp(t (q k - 1))`` and need no maximum taken off. So their sums can
be kept and changed: that is how an image enters a memory and another one leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lib.models.layers.numeric import instance_l2_norm, without_autocast

TEMPERATURE, EXTRA = 30.0, 16
"""EXTRA: columns behind the channels, of which one or two are used; products with 514 columns take 1.5 times as long as
with 528."""


@dataclass(frozen=True, slots=True)
class LabelMemory:
    """Template images of B sequences, encoded: n of h * w cells each, the newest first.

    Attributes:
        keys: [B, n * h * w, D] of the cross-attention.
        values: [B, n * h * w, C + EXTRA]: token times label, label, one, zeros.
        labels: [B, n * h * w]; this and what follows is None in a memory that no image will enter.
        tokens: [B, n * h * w, C + EXTRA]: token as it came in, one, zeros.
        own_keys: [B, n * h * w, D] of the attention among the images.
        sums: [B, n * h * w, C + EXTRA] of weights times `tokens` in that attention.
    """

    keys: Tensor
    values: Tensor
    labels: Tensor | None = None
    tokens: Tensor | None = None
    own_keys: Tensor | None = None
    sums: Tensor | None = None


class LabelTransformer(nn.Module):
    """Encoder of template images, and decoder of any image against them; one layer and one head each.

    Both have one self-attention. Module names are those of published checkpoints, which have it under both.

    Args:
        width: Channels C of the maps.
        key_width: D.
        scale: Root mean square of every map; see `instance_l2_norm`.
    """

    def __init__(self, width: int, key_width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        units = {}
        for name in ("self_attn", "cross_attn"):
            linear = nn.Linear(width, key_width)
            nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(linear.bias)
            units[name] = nn.ModuleDict({"head": nn.ModuleList([nn.ModuleDict({"WK": linear})])})
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict(units)])})

    @without_autocast
    def encode(self, features: Tensor, labels: Tensor, growing: bool = False) -> LabelMemory:
        """Memory of the template images of B sequences.

        Args:
            features: [B, n, C, h, w].
            labels: [B, n, h, w], the target's Gaussian.
            growing: Images will enter it.
        """
        rows, height, width = len(features), *features.shape[-2:]
        tokens = _with_one(features.flatten(3).transpose(2, 3).flatten(1, 2))
        keys = self._keys("self_attn", tokens[..., :-EXTRA])
        cells = height * width
        # Image by image, since the whole map of weights would be the largest tensor by far.
        sums = torch.cat([_attend(part, keys, tokens) for part in keys.split(cells, dim=1)], dim=1)
        return self._finished(tokens, keys, sums, labels.reshape(rows, -1), cells, growing)

    @without_autocast
    def push(self, memory: LabelMemory, features: Tensor, labels: Tensor, limit: int) -> LabelMemory:
        """Memory with one more image at its front, equal to encoding them all up to rounding.

        Sums of an image are made when it enters and changed until it leaves, so errors do not grow with time.

        Args:
            memory: Growing, of B rows with n images each; it is left as it was.
            features: [B, C, h, w] of the image.
            labels: [B, h, w].
            limit: Most images; the last one leaves where there are as many.
        """
        assert memory.labels is not None
        assert memory.tokens is not None
        assert memory.own_keys is not None
        assert memory.sums is not None
        cells = labels.shape[-2] * labels.shape[-1]
        new_tokens = _with_one(features.flatten(2).transpose(1, 2))
        new_keys = self._keys("self_attn", new_tokens[..., :-EXTRA])
        stay = min(memory.keys.shape[1], (limit - 1) * cells)
        keys, tokens, sums = memory.own_keys[:, :stay], memory.tokens[:, :stay], memory.sums[:, :stay]
        # Images that stay: attention to the new one is added to their sums, attention to the one that leaves taken off.
        weights = _weights(keys, new_keys)
        sums = torch.baddbmm(sums, weights, new_tokens)
        if stay < memory.keys.shape[1]:
            sums.baddbmm_(_weights(keys, memory.own_keys[:, stay:]), memory.tokens[:, stay:], alpha=-1)
        # The new image: attention to itself and to those that stay.
        new_sums = torch.baddbmm(_weights(new_keys, new_keys) @ new_tokens, weights.transpose(1, 2), tokens)
        pairs = (new_tokens, tokens), (new_keys, keys), (new_sums, sums)
        tokens, keys, sums = (torch.cat(pair, dim=1) for pair in pairs)
        labels = torch.cat([labels.flatten(1), memory.labels[:, :stay]], dim=1)
        return self._finished(tokens, keys, sums, labels, cells, True)

    @without_autocast
    def decode(
        self, features: Tensor, memory: LabelMemory | Sequence[LabelMemory], rows: Sequence[int] | None = None
    ) -> Tensor:
        """Maps of images after attention to the labelled memory, each image by itself.

        Args:
            features: [N, C, h, w].
            memory: Of B rows, to which N / B images belong each, in order; or memories of one row each and of any
                sizes.
            rows: Which of these memories each image belongs to; None: as many images as memories, in order.

        Returns:
            [N, C, h, w].
        """
        height, width = features.shape[-2:]
        tokens = features.flatten(2).transpose(1, 2)
        keys = self._keys("self_attn", tokens)
        weights = _weights(keys, keys)
        attended = (weights @ tokens) / weights.sum(dim=2, keepdim=True)
        tokens = instance_l2_norm(tokens + attended, self.scale, 2)
        queries = self._keys("cross_attn", tokens)
        if isinstance(memory, LabelMemory):
            mixed = _attend(queries.view(len(memory.keys), -1, queries.shape[2]), memory.keys, memory.values)
            mixed = mixed.view(*tokens.shape[:2], -1)
        else:
            mixed = _attend_apart(queries, memory, range(len(memory)) if rows is None else rows)
        moved, label, total = mixed.split([tokens.shape[2], 1, EXTRA - 1], dim=2)
        moved, label = moved / total[..., :1], label / total[..., :1]
        labelled = instance_l2_norm(tokens * label, self.scale, 2)
        moved = instance_l2_norm(tokens + moved, self.scale, 2)
        found = instance_l2_norm(labelled + moved, self.scale, 2)
        return found.transpose(1, 2).unflatten(2, (height, width))

    def _keys(self, unit: str, tokens: Tensor) -> Tensor:
        """Unit vectors [.., D] of tokens [.., C]."""
        linear = self.get_submodule(f"decoder.layers.0.{unit}.head.0.WK")
        return F.normalize(linear(tokens), dim=-1)

    def encoded(self, tokens: Tensor, sums: Tensor, cells: int) -> Tensor:
        """Tokens after the encoder.

        Args:
            tokens, sums: [B, n * cells, C + EXTRA]; see `LabelMemory`.
            cells: Of an image.

        Returns:
            [B, n * cells, C].
        """
        width = tokens.shape[2] - EXTRA
        summed = (tokens[..., :width] + sums[..., :width] / sums[..., width, None]).unflatten(1, (-1, cells))
        return instance_l2_norm(summed, self.scale, 2).flatten(1, 2)

    def _finished(
        self, tokens: Tensor, own_keys: Tensor, sums: Tensor, labels: Tensor, cells: int, growing: bool
    ) -> LabelMemory:
        """The memory by the sums of its images' attention to each other."""
        encoded = self.encoded(tokens, sums, cells)
        label = labels[..., None].to(encoded.dtype)
        values = _with_one(torch.cat([encoded * label, label], dim=-1), EXTRA - 1)
        rest = (labels, tokens, own_keys, sums) if growing else ()
        return LabelMemory(self._keys("cross_attn", encoded), values, *rest)


def _with_one(x: Tensor, columns: int = EXTRA) -> Tensor:
    """[B, N, C] -> [B, N, C + columns]: a one and zeros behind."""
    behind = x.new_zeros(columns)
    behind[0] = 1
    return torch.cat([x, behind.expand(*x.shape[:2], columns)], dim=2)


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    """[B, Nq, D] and [B, Nk, D], unit vectors -> [B, Nq, Nk] in 0..1, not normalised."""
    base = queries.new_full((), -TEMPERATURE)
    return torch.baddbmm(base, queries, keys.transpose(1, 2), alpha=TEMPERATURE).exp_()


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Sums of values [B, Nk, C] by `_weights`, which are not kept for a backward pass but computed again."""

    def sums(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return _weights(queries, keys) @ values

    if not torch.is_grad_enabled():
        return sums(queries, keys, values)
    return checkpoint(sums, queries, keys, values, use_reentrant=False, preserve_rng_state=False)


def _attend_apart(queries: Tensor, memories: Sequence[LabelMemory], rows: Sequence[int]) -> Tensor:
    """Cross-attention of images [N, h * w, D] to the memories they belong to -> [N, h * w, C + EXTRA]."""
    found: list[Tensor | None] = [None] * len(queries)
    for number, memory in enumerate(memories):
        members = [i for i, row in enumerate(rows) if row == number]
        if members:
            asked = torch.cat([queries[i : i + 1] for i in members], dim=1)
            mixed = _attend(asked, memory.keys, memory.values).chunk(len(members), dim=1)
            for i, value in zip(members, mixed, strict=True):
                found[i] = value
    return torch.cat(cast("list[Tensor]", found))
