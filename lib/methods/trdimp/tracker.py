"""TrDiMP at test time: a filter finds the target, a box regressor refines its box, and both learn on (CVPR 2021).

Score maps are read and boxes refined for all rows together; filters are updated in one batch of the rows that are due.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lib.data import Normalise, PatchStyle
from lib.device import to_device
from lib.methods.trdimp.config import TrDiMPConfig, TrDiMPTest
from lib.methods.trdimp.network import ImageFeatures, TrDiMP
from lib.models.heads import Candidates
from lib.models.losses import gaussian_labels
from lib.models.online import apply_filter
from lib.models.temporal import LabelMemory
from lib.track import (
    Flag,
    Frames,
    Noise,
    Policy,
    Prediction,
    SampleMemory,
    SearchRegion,
    StagedTracker,
    State,
    TemplateRegion,
    TrackerOutput,
    checked_boxes,
    row_noise,
    sequence_keys,
)

TEMPLATE_SIGMA = 0.1
"""Deviation of the template images' labels, in units of the map's side."""


@dataclass(kw_only=True)
class TrDiMPTemplate(TemplateRegion):
    """Crops of the first frames; `crops` is [B, K, 3, S, S], `boxes_xywh` [B, K, 4].

    Attributes:
        keys: [B] int64, numbers of the sequences; see `sequence_keys`.
        kept: [B, D, C] bool, the channels that each further copy of the first sample keeps.
        frozen: [B, K, C, h, w], see `TrDiMPRegion`.
    """

    keys: Tensor
    kept: Tensor
    frozen: Tensor | None = None


@dataclass
class TrDiMPRegion(SearchRegion):
    """A search region, and what exploring and learning share.

    Attributes:
        frozen: [B, C, h, w] of an exploring tracker: maps after the backbone's frozen layers.
    """

    frozen: Tensor | None = None


@dataclass(frozen=True)
class EncodedTemplate:
    """Filters, modulation vectors and memories from the first frames of B sequences.

    Attributes:
        filters: [B, I, C, k, k]; the last one is used, the others are its earlier iterates where they are asked for.
        modulation: [B, 2, C] of the box regressor.
        memories: One per row.
        samples: [B, n, C, h, w] decoded features.
        boxes_xywh: [B, n, 4] in crop pixels.
    """

    filters: Tensor
    modulation: Tensor
    memories: list[LabelMemory]
    samples: Tensor
    boxes_xywh: Tensor


@dataclass
class TrDiMPState(State):
    """State of B targets.

    Attributes:
        boxes_xywh: [B, 4] float64 on the CPU, image pixels.
        scales: [B] float64 on the CPU, image pixels per pixel of the next crop.
        keys, steps: [B] int64 on the CPU, numbers of the sequences, and frames since their start.
        filters, modulation, memories: See `EncodedTemplate`.
        samples: What the filters learn from; None where they do not learn on.
        flags: [B] int64 on the CPU, `Flag` of the latest frame.
    """

    boxes_xywh: Tensor
    scales: Tensor
    keys: Tensor
    steps: Tensor
    filters: Tensor
    modulation: Tensor
    memories: list[LabelMemory]
    samples: SampleMemory | None
    flags: Tensor


class TrDiMPTracker(StagedTracker[TrDiMPState, TrDiMPTemplate, TrDiMPRegion]):
    """TrDiMP, and its exploring variant for roll-outs, which learns nothing after the first frame.

    Positions of targets are between their first and last pixel, half a pixel off the middles of boxes.

    Attributes:
        settings: TEST.
        patches: Cuts the crops.
        noise: Uniform numbers of channels to drop, shifts and boxes; may be set from outside.
        exploring: All iterates of the filter are kept, all rows share the random boxes of a frame, and a crop that was
            shrunk into the picture stays at its scale, as in published sequence-level training.
    """

    network: TrDiMP
    frame_calls = ("extract", "refine")
    tracker_keys = (
        "search_factor",
        "train_skipping",
        "transformer_skipping",
        "memory.learning_rate",
        "localisation.target_not_found_threshold",
        "localisation.distractor_threshold",
        "localisation.hard_negative_threshold",
        "localisation.displacement_scale",
        "box_refinement.box_refinement_iter",
        "box_refinement.box_refinement_step_length",
    )

    def __init__(self, network: TrDiMP, settings: TrDiMPTest, normalise: Normalise) -> None:
        self.network = network.eval()
        self.grid = network.grid
        self.settings = settings
        self.device = next(network.parameters()).device
        self.normalise = normalise.to(self.device)
        self.patches = PatchStyle()
        self.noise: Noise = partial(row_noise, settings.seed)
        self.exploring = False

    @classmethod
    def from_config(cls, config: TrDiMPConfig, network: TrDiMP) -> TrDiMPTracker:
        """The tracker of TEST, with the normalisation of DATA."""
        data = config.data
        return cls(network, config.test, Normalise(data.mean, data.std, channels=data.channels))

    def explorer(self) -> TrDiMPTracker:
        """The exploring variant: the filter as in training, no distractors, nothing learned on the way."""
        twin, s = copy.copy(self), self.settings
        twin.exploring = True
        twin.settings = replace(
            s,
            net_opt_iter=self.network.classifier.filter_optimizer.iterations,
            update_classifier=False,
            localisation=replace(s.localisation, advanced_localization=False),
            augment=replace(s.augment, dropout=0),
        )
        return twin

    # The first frame

    def crop_template(self, frames: Frames, boxes_xywh: Tensor) -> TrDiMPTemplate:
        boxes, keys = checked_boxes(frames, boxes_xywh), sequence_keys(frames, boxes_xywh)
        augment, size, width = self.settings.augment, self.settings.search_size, self.network.width
        numbers = self.noise(keys, torch.zeros_like(keys), (augment.draws + augment.dropout * width,)).float()
        uniform, channels = numbers[:, : augment.draws], numbers[:, augment.draws :]
        crops = np.empty((len(frames), augment.crops, 3, size, size), dtype=np.float32)
        placed = np.empty((len(frames), augment.crops, 4))
        for i, (frame, box, scale) in enumerate(zip(frames, boxes.numpy(), self._scales(boxes).tolist(), strict=True)):
            middle = np.rint(box[:2] + (box[2:] - 1) / 2)
            side = round(size * augment.expansion)
            region = self.patches.place_at(middle, scale, side, frame.size_hw, inside=False)
            shifts = augment.shifts(size, uniform[i].numpy())
            crops[i] = augment.crop(self.patches.crop(frame.rgb, region, side), size, shifts).transpose(0, 3, 1, 2)
            placed[i] = np.concatenate([(box[:2] - middle - 0.5) / scale + size / 2, box[2:] / scale])
            placed[i, :, :2] += shifts[:, ::-1]
        kept = (channels >= augment.dropout_rate).view(len(frames), augment.dropout, width)
        pixels, found = to_device(torch.from_numpy(crops), self.device), torch.from_numpy(placed / size)
        frozen = self._frozen_map(pixels.flatten(0, 1))
        frozen = None if frozen is None else frozen.unflatten(0, pixels.shape[:2])
        return TrDiMPTemplate(crops=pixels, boxes_xywh=found, keys=keys, kept=kept, frozen=frozen)

    def _frozen_map(self, crops: Tensor) -> Tensor | None:
        """Map [N, C, h, w] of crops [N, 3, S, S] after the backbone's frozen layers, which learning will need again.

        None for a tracker that does not explore, and for a backbone without frozen layers.
        """
        network = self.network
        if not self.exploring or not network.shared_layers:
            return None
        with torch.no_grad():
            return network.feature_extractor.maps(self.normalise(crops), last=network.shared_layers)[-1]

    def _extract(self, crops: Tensor, frozen: Tensor | None) -> ImageFeatures:
        """Features of crops [N, 3, S, S], from what `_frozen_map` gave if there is any."""
        network = self.network
        if frozen is None:
            return network.extract(self.normalise(crops))
        return network.extract(frozen, network.shared_layers)

    def encode_template(self, region: TrDiMPTemplate) -> EncodedTemplate:
        """Learn filters from the crops, row by row: a row alone is a batch already."""
        rows = [self._encode(region.select([i])) for i in range(len(region.keys))]
        names = "filters", "modulation", "samples", "boxes_xywh"
        joined = {name: torch.cat([getattr(row, name) for row in rows]) for name in names}
        return EncodedTemplate(memories=[row.memories[0] for row in rows], **joined)

    def _encode(self, region: TrDiMPTemplate) -> EncodedTemplate:
        """`encode_template` of one row."""
        network, classifier, s = self.network, self.network.classifier, self.settings
        extracted = self._extract(region.crops[0], None if region.frozen is None else region.frozen[0])
        x = extracted.classification
        kept = to_device(region.kept[0].to(x.dtype), x.device)
        copies = kept[..., None, None] * x[:1] / (1 - s.augment.dropout_rate)
        boxes = to_device((region.boxes_xywh[0] * s.search_size).to(x.dtype), x.device)
        boxes = torch.cat([boxes, boxes[:1].expand(len(copies), -1)])[None]
        features = torch.cat([x, copies])
        memory = classifier.transformer.encode(features[None], self._labels(boxes), growing=self._memory_grows())
        samples = classifier.transformer.decode(features, memory)[None]
        first = classifier.filter_initializer(samples, boxes)
        iterates = classifier.filter_optimizer(first, samples, boxes, iterations=s.net_opt_iter)
        filters = torch.stack(iterates if self.exploring else iterates[-1:], dim=1)
        modulation = network.bb_regressor.modulation(extracted.fine[:1], extracted.coarse[:1], boxes[:, 0])
        return EncodedTemplate(filters, modulation, [memory], samples, boxes)

    def init_state(self, region: TrDiMPTemplate, encoded: EncodedTemplate, boxes_xywh: Tensor) -> TrDiMPState:
        s, samples = self.settings, None
        if s.update_classifier:
            samples = SampleMemory.init(encoded.samples, encoded.boxes_xywh, s.memory.sample_memory_size)
        return TrDiMPState(
            boxes_xywh=boxes_xywh,
            scales=self._scales(boxes_xywh),
            keys=region.keys,
            steps=torch.zeros_like(region.keys),
            filters=encoded.filters,
            modulation=encoded.modulation,
            memories=encoded.memories,
            samples=samples,
            flags=torch.full_like(region.keys, Flag.NORMAL),
        )

    def move_to(self, state: TrDiMPState, boxes_xywh: Tensor) -> TrDiMPState:
        return replace(state, boxes_xywh=boxes_xywh, scales=self._scales(boxes_xywh))

    # Every frame

    def crop_search(self, state: TrDiMPState, frames: Frames) -> TrDiMPRegion:
        s, size = self.settings, self.settings.search_size
        pixels = np.empty((len(frames), 3, size, size), dtype=np.float32)
        geometry = np.empty((len(frames), 6))
        middles = state.boxes_xywh[:, :2] + (state.boxes_xywh[:, 2:] - 1) / 2
        for i, (frame, middle, scale) in enumerate(zip(frames, middles.tolist(), state.scales.tolist(), strict=True)):
            region = self.patches.place_at(middle, scale, size, frame.size_hw, max_shrink=s.patch_max_scale_change)
            pixels[i] = self.patches.crop(frame.rgb, region, size).transpose(2, 0, 1)
            geometry[i] = *region.centre_xy, *region.sides_wh, *frame.size_hw
        crops = to_device(torch.from_numpy(pixels), self.device)
        centres, sides, sizes_hw = torch.from_numpy(geometry).split(2, dim=1)
        return TrDiMPRegion(crops, centres, sides, sizes_hw, self._frozen_map(crops))

    def forward(self, state: TrDiMPState, region: TrDiMPRegion, rows: Tensor | None = None) -> TrackerOutput:
        transformer, filters, modulation = self.network.classifier.transformer, state.filters, state.modulation
        features = self._extract(region.crops, region.frozen)
        decoded = transformer.decode(features.classification, state.memories, None if rows is None else rows.tolist())
        if rows is not None:
            filters, modulation = filters[rows], modulation[rows]
        per_iterate = [apply_filter(decoded[:, None], iterate).flatten(1) for iterate in filters.unbind(1)]
        scores = torch.stack(per_iterate, dim=1)
        names = "classification", "fine", "coarse"
        maps = {"decoded": decoded, **{name: getattr(features, name) for name in names}}
        maps |= {"iterates": scores, "modulation": modulation}
        side = self.grid + 1
        cells = (torch.arange(side, device=scores.device) - side // 2) / self.grid + 0.5
        places = torch.stack([cells.repeat(side), cells.repeat_interleave(side)], dim=1)
        # Their sizes are not known before the refinement.
        boxes = torch.cat([places, torch.zeros_like(places)], dim=1).to(scores).expand(len(scores), -1, -1)
        return TrackerOutput(Candidates(scores[:, -1], boxes, maps), scores[:, -1], scores[:, -1])

    def postprocess(
        self, state: TrDiMPState, region: TrDiMPRegion, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[TrDiMPState, Prediction]:
        s, size, sizes = self.settings, self.settings.search_size, state.boxes_xywh[:, 2:]
        scale = region.sides[:, :1] / size
        # Positions are relative to the middle pixel of the crop.
        middle, cell = region.centres - 0.5, self.network.stride * scale
        before = state.boxes_xywh[:, :2] + (sizes - 1) / 2 - middle
        moved, flags, confidence = self._localise(output, sizes / cell, before / cell, policy)
        reach = (0.5 - s.target_inside_ratio) * sizes
        at = (middle + moved * cell).clamp(min=-reach, max=region.sizes_hw.flip(1) + reach)
        kept = torch.cat([at - (sizes - 1) / 2, sizes], dim=1)
        refined, is_refined = self._refine(state, output.candidates, region.to_crop(kept) * size)
        # Published: the refined box's own middle is its position.
        corners = (refined[:, :2] - (size - 1) / 2) * scale + region.centres
        boxes = torch.where(is_refined[:, None], torch.cat([corners, refined[:, 2:] * scale], dim=1), kept)
        damped = self.damp_sizes(sizes, boxes[:, 2:], confidence)
        boxes = torch.cat([boxes[:, :2] + (boxes[:, 2:] - damped) / 2, damped], dim=1)
        is_found = flags != Flag.NOT_FOUND
        boxes = torch.where(is_found[:, None], boxes, state.boxes_xywh)
        rescaled = is_found & is_refined
        if not s.update_scale_when_uncertain:
            rescaled &= flags != Flag.UNCERTAIN
        scales = self._scales(boxes)
        if self.exploring:
            scales = scale[:, 0] * (boxes[:, 2:].prod(dim=1) / sizes.prod(dim=1)).sqrt()
        scales = torch.where(rescaled, scales, state.scales)
        after = replace(state, boxes_xywh=boxes, scales=scales, steps=state.steps + 1, flags=flags)
        return after, Prediction(boxes, confidence, output.windowed_scores)

    def _localise(
        self, output: TrackerOutput, sizes: Tensor, before: Tensor, policy: Policy | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Find the targets' displacements.

        Args:
            output: Of B search regions.
            sizes: [B, 2] widths and heights of the targets in cells.
            before: [B, 2] x, y of where the targets were, in cells from the middle one.
            policy: Chooses cells.

        Returns:
            [B, 2] float64 x, y in cells from the middle one, `Flag` [B], highest scores [B] in 0..1, NaN where one
            is not finite.
        """
        side = self.grid + 1
        scores = output.candidates.scores.detach().float().cpu()
        rules = self.settings.localisation
        moved, flags = rules.localise(scores.unflatten(1, (side, side)), sizes.flip(1).float(), before.flip(1).float())
        if policy is not None:
            choice = policy(output.candidates.scores).cpu()
            chosen = torch.stack([choice // side, choice % side], dim=1) - side // 2
            moved = torch.where(choice[:, None] < 0, moved, chosen.to(moved))
            flags = flags.masked_fill(choice >= 0, int(Flag.NORMAL))
        confidence = torch.where(scores.isfinite().all(dim=1), scores.amax(dim=1).clamp(0, 1), torch.nan)
        return moved.flip(1).double(), flags, confidence

    def _refine(self, state: TrDiMPState, found: Candidates, boxes_xywh: Tensor) -> tuple[Tensor, Tensor]:
        """Refined boxes [B, 4] in crop pixels, from given and random ones; [B] bool, False where none is usable."""
        rules, maps = self.settings.box_refinement, found.maps
        drawn = 1 if self.exploring else len(boxes_xywh)
        uniform = self.noise(state.keys[:drawn], state.steps[:drawn] + 1, (rules.num_init_random_boxes, 4)).float()
        starts = rules.starts(boxes_xywh.float(), uniform.expand(len(boxes_xywh), -1, -1))
        features = ImageFeatures(maps["fine"], maps["coarse"], maps["classification"])
        ascent = rules.box_refinement_iter, rules.box_refinement_step_length, rules.box_refinement_step_decay
        boxes, scores = self.network.refine(maps["modulation"], features, to_device(starts, self.device), *ascent)
        packed = torch.cat([boxes, scores[..., None]], dim=2).float().cpu()
        best, usable = rules.choose(packed[..., :4], packed[..., 4])
        return best.double(), usable

    # What is learned on the way

    def update(
        self, state: TrDiMPState, frames: Frames, region: TrDiMPRegion, output: TrackerOutput, prediction: Prediction
    ) -> TrDiMPState:
        """Store the frame as a sample; improve the filters and renew the template images that are due."""
        s, maps = self.settings, output.candidates.maps
        is_hard = state.flags == Flag.HARD_NEGATIVE
        learns = is_hard | (state.flags == Flag.NORMAL)
        if state.samples is None or not learns.any():
            return state
        rows, m = learns.nonzero().flatten().tolist(), s.memory
        boxes = region.to_crop(state.boxes_xywh) * s.search_size
        rates = torch.full(learns.shape, m.learning_rate).masked_fill(is_hard, m.hard_negative_learning_rate)
        decoded = maps["decoded"][to_device(torch.tensor(rows), self.device)]
        samples = state.samples.add(rows, decoded, boxes[rows], rates[rows], m.init_samples_minimum_weight)
        state = replace(state, samples=samples)
        is_due = learns & ~is_hard & (state.steps % s.train_skipping == 0)
        state = self._learn(state, is_hard, s.net_opt_hn_iter)
        state = self._learn(state, is_due, s.net_opt_update_iter)
        if not self._memory_grows():
            return state
        transformer, memories, x = self.network.classifier.transformer, list(state.memories), maps["classification"]
        for row in (learns & (state.steps % s.transformer_skipping == 0)).nonzero().flatten().tolist():
            images = memories[row].keys.shape[1] // self.grid**2
            label = self._labels(to_device(boxes[row : row + 1].to(x.dtype), x.device))
            limit = max(s.transformer_memory_size, images)
            memories[row] = transformer.push(memories[row], x[row : row + 1], label, limit)
        return replace(state, memories=memories)

    def _learn(self, state: TrDiMPState, due: Tensor, iterations: int) -> TrDiMPState:
        """Improve the filters of the rows that are due [B] bool, as one batch."""
        rows = due.nonzero().flatten().tolist()
        if not rows or not iterations:
            return state
        assert state.samples is not None
        features, boxes, weights = state.samples.samples(rows)
        at = to_device(torch.tensor(rows), state.filters.device)
        optimizer = self.network.classifier.filter_optimizer
        learned = optimizer(state.filters[at, -1], features, boxes, weights, iterations)[-1]
        return replace(state, filters=state.filters.index_copy(0, at, learned[:, None]))

    def _memory_grows(self) -> bool:
        """True if template images enter the transformer's memory on the way."""
        return self.settings.update_classifier and self.settings.transformer_skipping > 0

    def _labels(self, boxes_xywh: Tensor) -> Tensor:
        """Labels [..., h, w] of template images, by boxes [..., 4] in crop pixels."""
        return gaussian_labels(boxes_xywh / self.settings.search_size, self.grid, TEMPLATE_SIGMA)

    def _scales(self, boxes_xywh: Tensor) -> Tensor:
        """[B] float64 image pixels per crop pixel, in single precision as published: crops are rounded by them."""
        s = self.settings
        areas = (boxes_xywh[:, 2:].float() * s.search_factor).prod(dim=1).double()
        return (areas.sqrt().float() / s.search_size).double()
