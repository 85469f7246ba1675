"""CSTrack (Feng et al., ICML 2025): RGB and a second modality as one compact stream, with or without a memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib.models.backbones import FastITPN
from lib.models.fusion import FusedSpatialCompact, SpatialCompactModule
from lib.models.heads import Candidates, ConfidenceHead, TaskHead
from lib.models.layers import FuseOptions, sample_pictures, with_fused_children
from lib.models.temporal import (
    FusedTemporal,
    TemporalCompactModule,
    best_tokens,
    box_prior,
    inverse_affinity,
    memory_init,
    memory_push,
    where_first,
)


@dataclass(frozen=True)
class MemorySize:
    """Size of the memory of stage 2.

    Attributes:
        length: Entries T, the first frame's among them.
        tokens: Tokens K of an entry.
    """

    length: int = 4
    tokens: int = 16


@dataclass(frozen=True, slots=True)
class FrameOutput:
    """Network output for R search regions of one frame.

    Attributes:
        candidates: Of the centre head.
        memory: [R, T, K, C] for the next frame; None in stage 1.
        weight: [R, N] by which tokens were chosen for the memory; None in stage 1.
    """

    candidates: Candidates
    memory: Tensor | None = None
    weight: Tensor | None = None


@dataclass(frozen=True, slots=True)
class CSTrackOutput:
    """Network output in training, Ns * B rows, frame-major.

    Attributes:
        candidates: Of the centre head.
        class_logits: [Ns * B, 4] of the modality.
        confidence: [Ns * B, 1] in 0..1.
        tokens: [Ns * B, 1 + 2 P + Nt * Nz + N, C], the encoder's: class, prompts, templates, search region.
        weight: [Ns * B, N] by which tokens were chosen for the memory; None in stage 1.
    """

    candidates: Candidates
    class_logits: Tensor
    confidence: Tensor
    tokens: Tensor
    weight: Tensor | None = None


@dataclass(frozen=True, slots=True)
class PosEmbeds:
    """Position embeddings.

    Attributes:
        tokens: [1 + 2 P + Nt * Nz + N, C] of class token, prompts of both modalities, templates, search region.
        fusion: [P + Nt * Nz + N, C] for both streams of the spatial module: prompts of either one have the rows of the
            second modality's prompts, as published networks were trained.
        search: [N, C].
        memory: [T * K, C], one row per entry, the same for all its tokens; None in stage 1.
    """

    tokens: Tensor
    fusion: Tensor
    search: Tensor
    memory: Tensor | None


class CSTrack(nn.Module):
    """The network of CSTrack (sec. 3); module names are those of published checkpoints.

    Args:
        backbone: A Fast-iTPN.
        box_head: A centre head.
        heads: Attention heads of both compact modules.
        prompts: Prompt tokens P of a modality.
        memory: Of stage 2; None for stage 1, which finds the target in every frame by itself.
    """

    def __init__(
        self, backbone: FastITPN, box_head: nn.Module, heads: int, prompts: int, memory: MemorySize | None
    ) -> None:
        super().__init__()
        width, std = backbone.width, backbone.init_std
        self.memory, self.prompts = memory, prompts
        self.backbone, self.box_head, self.search_length = backbone, box_head, backbone.grid_search**2
        self.confidence_pred = ConfidenceHead(backbone.grid_search)
        self.task_cls = TaskHead(width)
        self.rgb_prompts, self.det_prompts = nn.Embedding(prompts, width), nn.Embedding(prompts, width)
        self.cls_prompts_pos = nn.Embedding(1 + 2 * prompts, width)
        self.backbone_rgb_det_fusion = SpatialCompactModule(width, heads, prompts, init_std=std)
        self._pos_embeds: PosEmbeds | None = None
        if memory is not None:
            self.dy_template_pos_embed = nn.Embedding(memory.length, width)
            self.temporal_fusion = TemporalCompactModule(width, heads, 2 * width, init_std=std)

    def pos_embeds(self) -> PosEmbeds:
        """Position embeddings by the present weights; kept ones in a network that is prepared for inference."""
        if self._pos_embeds is not None:
            return self._pos_embeds
        b, memory = self.backbone, None
        tokens = torch.cat([self.cls_prompts_pos.weight, b.pos_embed_z[0], b.pos_embed_x[0]])
        if self.memory is not None:
            memory = self.dy_template_pos_embed.weight.repeat_interleave(self.memory.tokens, dim=0)
        return PosEmbeds(tokens, tokens[1 + self.prompts :], tokens[-self.search_length :], memory)

    def type_template(self, tokens: Tensor, foreground_mask: Tensor) -> Tensor:
        """One template's tokens with their types, foreground and background.

        Args:
            tokens: [B, 2, Nz, C].
            foreground_mask: [B, i, Nz], the share of each cell that the target covers, in all templates so far. They
                are multiplied, as published networks were trained: A later template's cell is foreground as far as it
                is in all templates before it.
        """
        return self.backbone.type_template(tokens, foreground_mask.prod(dim=1), (1 - foreground_mask).prod(dim=1))

    def encode_template(self, template: Tensor, foreground: Tensor) -> Tensor:
        """Once per target: typed tokens of two equal templates.

        Args:
            template: [B, 6, T, T], normalised.
            foreground: [B, Nz], share of each template cell that the target covers.

        Returns:
            [B, 2, 2 Nz, C], the tokens of both modalities: those of the first template, then those of the second.
        """
        tokens = self.backbone.embed(template)
        masks = (foreground[:, None], torch.stack([foreground, foreground], dim=1))
        return torch.cat([self.type_template(tokens, mask) for mask in masks], dim=2)

    def update_template(self, tokens: Tensor, foreground: Tensor, template: Tensor, new_foreground: Tensor) -> Tensor:
        """The tokens with a new second template.

        Args:
            tokens: [B, 2, 2 Nz, C], from `encode_template`.
            foreground: [B, Nz] of the first template.
            template, new_foreground: [B, 6, T, T], normalised, and [B, Nz] of the new one.
        """
        new = self.type_template(self.backbone.embed(template), torch.stack([foreground, new_foreground], dim=1))
        return torch.cat([tokens[:, :, : foreground.shape[1]], new], dim=2)

    def sample_inputs(self) -> dict[str, dict[str, Tensor]]:
        """Example inputs of all entry points, two rows each, pictures in uint8; see `lib.deploy.graphs`."""
        b, generator = self.backbone, torch.Generator().manual_seed(0)
        template, length = sample_pictures(6, b.template_size), b.grid_template**2
        tokens = torch.randn(2, 2, 2 * length, b.width, generator=generator)
        masks = torch.rand(2, 2, length, generator=generator).unbind(0)
        locate = {"tokens": tokens, "search": sample_pictures(6, b.search_size)}
        if self.memory is not None:
            memory = (2, self.memory.length, self.memory.tokens, b.width)
            locate |= {"memory": torch.randn(memory, generator=generator), "first": torch.tensor([False, True])}
        first = {"template": template, "foreground": masks[0]}
        update = {"tokens": tokens, "foreground": masks[0], "template": template, "new_foreground": masks[1]}
        return {"encode_template": first, "update_template": update, "locate": locate}

    def encode_templates(self, templates: Tensor, foreground_mask: Tensor) -> Tensor:
        """Typed tokens of several templates.

        Args:
            templates: [B, Nt, 6, T, T], normalised, in temporal order.
            foreground_mask: [B, Nt, Nz], share of each template cell that the target covers.

        Returns:
            [B, 2, Nt * Nz, C], the tokens of both modalities.
        """
        count = templates.shape[1]
        tokens = self.backbone.embed(templates.flatten(0, 1)).unflatten(0, (-1, count))
        return torch.cat([self.type_template(tokens[:, i], foreground_mask[:, : i + 1]) for i in range(count)], dim=2)

    def encode(self, templates: Tensor, search: Tensor, first: int = 0) -> Tensor:
        """Both modalities as one stream, encoded.

        Args:
            templates: [R, 2, Nt * Nz, C] typed tokens.
            search: [R, 6, S, S], normalised.
            first: Number of the first token that is wanted.

        Returns:
            The encoder's tokens from `first` on: [R, 1 + 2 P + Nt * Nz + N - first, C].
        """
        search_tokens = self.backbone.type_search(self.backbone.embed(search))
        prompts = torch.stack([self.rgb_prompts.weight, self.det_prompts.weight])
        prompts = prompts.expand(search_tokens.shape[0], -1, -1, -1)
        rgb, aux = torch.cat([prompts, templates, search_tokens], dim=2).unbind(1)
        pos_embeds = self.pos_embeds()
        fused = self.backbone_rgb_det_fusion(rgb, aux, pos_embeds.fusion)
        tokens = torch.cat([self.backbone.cls_token.expand(fused.shape[0], -1, -1), fused], dim=1) + pos_embeds.tokens
        return self.backbone.encode(tokens, first)

    def decode(self, search_tokens: Tensor) -> Candidates:
        """Run the box head.

        Args:
            search_tokens: [R, N, C], row-major.
        """
        grid = self.backbone.grid_search
        feature = search_tokens.transpose(1, 2).unflatten(2, (grid, grid))
        return self.box_head(feature).with_maps(feature=feature)

    def locate(
        self, templates: Tensor, search: Tensor, memory: Tensor | None = None, first: Tensor | None = None
    ) -> FrameOutput:
        """Once per frame.

        Args:
            templates: [B, 2, Nt * Nz, C] typed tokens.
            search: [B, 6, S, S], normalised.
            memory: [B, T, K, C]; None in stage 1, and where all rows are at their first frame.
            first: [B] bool, the rows that are at their first frame; None for none of them.
        """
        if self.memory is None:
            before = 1 + 2 * self.prompts + templates.shape[2]
            return FrameOutput(self.decode(self.encode(templates, search, before)))
        return self.temporal_decode(self.encode(templates, search), memory, first)

    def temporal_decode(
        self, tokens: Tensor, memory: Tensor | None, first: Tensor | None = None, over_batch: bool = False
    ) -> FrameOutput:
        """Stage 2: find the target by the search tokens and the memory, and add its tokens to the memory.

        Args:
            tokens: [R, 1 + 2 P + Nt * Nz + N, C], the encoder's.
            memory, first: As in `locate`.
            over_batch: See `lib.models.temporal.inverse_affinity`.
        """
        size, n = self.memory or MemorySize(), self.search_length
        search, others = tokens[:, -n:], tokens[:, :-n]
        weight = inverse_affinity(search, others, over_batch)
        attended = memory
        if attended is None or first is not None:
            initial = memory_init(best_tokens(search, weight, size.tokens), size.length)
            attended = initial if attended is None or first is None else where_first(first, initial, attended)
        pos_embeds = self.pos_embeds()
        decoded = self.temporal_fusion(search, pos_embeds.search, attended.flatten(1, 2), pos_embeds.memory)
        candidates = self.decode(decoded)
        weight = weight + box_prior(candidates.best_boxes().detach(), self.backbone.grid_search)
        entry = best_tokens(search, weight, size.tokens)
        next_memory = memory_init(entry, size.length) if memory is None else memory_push(attended, entry)
        if memory is not None and first is not None:
            next_memory = where_first(first, memory_init(entry, size.length), next_memory)
        return FrameOutput(candidates, next_memory, weight)

    def forward(self, template: Tensor, search: Tensor, foreground_mask: Tensor) -> CSTrackOutput:
        """The form of training.

        In stage 2, later search frames attend to the memory of earlier ones; gradients flow through it. The heads see
        one frame of all samples at a time, which matters to their batch norms.

        Args:
            template: [B, Nt, 6, T, T], normalised, in temporal order.
            search: [B, Ns, 6, S, S], normalised, in temporal order.
            foreground_mask: [B, Nt, Nz], share of each template cell that the target covers.
        """
        frames = search.shape[1]
        templates = self.encode_templates(template, foreground_mask).repeat(frames, 1, 1, 1)
        tokens = self.encode(templates, search.transpose(0, 1).flatten(0, 1))
        logits = self.task_cls(tokens[:, 0])
        if self.memory is None:
            candidates = self.decode(tokens[:, -self.search_length :])
            return CSTrackOutput(candidates, logits, self.confidence_pred(candidates), tokens)
        memory, outputs, confidence = None, [], []
        for frame in tokens.chunk(frames):
            outputs.append(self.temporal_decode(frame, memory, over_batch=True))
            memory = outputs[-1].memory
            confidence.append(self.confidence_pred(outputs[-1].candidates))
        weight = torch.cat([f.weight for f in outputs if f.weight is not None])
        candidates = Candidates.cat([f.candidates for f in outputs])
        return CSTrackOutput(candidates, logits, torch.cat(confidence), tokens, weight)

    def fuse_for_inference(self, options: FuseOptions) -> nn.Module:
        """For inference; see `lib.models.layers.fused`. The heads of training alone are left out."""
        twin = with_fused_children(self, options)
        for name in ("confidence_pred", "task_cls"):
            del twin._modules[name]
        pos_embeds = self.pos_embeds()
        if not options.portable:
            fusion = FusedSpatialCompact(self.backbone_rgb_det_fusion, pos_embeds.fusion.detach(), options)
            twin._modules["backbone_rgb_det_fusion"] = fusion
            if pos_embeds.memory is not None:
                both = pos_embeds.search.detach(), pos_embeds.memory.detach()
                twin._modules["temporal_fusion"] = FusedTemporal(self.temporal_fusion, *both, options)
        twin._pos_embeds = twin.pos_embeds()
        return twin
