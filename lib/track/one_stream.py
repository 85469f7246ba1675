"""Tracking by one template and one search region per frame: the base of OSTrack and its descendants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from lib.config import Config, Part
from lib.data import CROP_STYLES, Frame, Normalise, clip_boxes
from lib.device import to_device
from lib.models.heads import Candidates, boxes_from_corners
from lib.track.online_filter import OnlineFilter, OnlineState
from lib.track.state import Frames, State
from lib.track.tracker import (
    Policy,
    Prediction,
    R,
    SearchRegion,
    StagedTracker,
    T,
    TemplateRegion,
    TrackerOutput,
    checked_boxes,
)


@dataclass(frozen=True)
class CropSettings:
    """Crops of template and search region.

    Attributes:
        template_size, search_size: Sides in pixels.
        template_factor, search_factor: Sides of the cut squares, as a multiple of the target's mean side.
        mean, std: Of the normalisation, per channel, for pixels in 0..1.
        style: A part of `lib.data.CROP_STYLES`.
        channels: Order of the channels that the network reads.
    """

    template_size: int
    template_factor: float
    search_size: int
    search_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    style: Part = Part("area")
    channels: str = "RGB"

    @classmethod
    def from_config(cls, config: Config) -> CropSettings:
        """Sizes and factors of TEST; style and normalisation of DATA."""
        t, d = config.test, config.data
        sizes = t.template_size, t.template_factor, t.search_size, t.search_factor
        return cls(*sizes, d.mean, d.std, d.crop_style, d.channels)


@dataclass
class OneStreamState(State):
    """State of B targets.

    Attributes:
        boxes_xywh: [B, 4] float64 on the CPU, image pixels.
        template: [B, Nz, C] tokens, computed once.
        template_mask: [B, Nz] bool, or None where the network needs none.
        padding: See `TemplateRegion`.
        online: What was learned on the way, of trackers with ONLINE.
        settings: [B, K] float64 on the CPU, values of the tracker's `row_keys`; None: those of the tracker.
    """

    boxes_xywh: Tensor
    template: Tensor
    template_mask: Tensor | None = None
    padding: Tensor | None = None
    online: OnlineState | None = None
    settings: Tensor | None = None

    def template_of(self, rows: Tensor | None) -> Tensor:
        """Tokens [M, Nz, C] of the targets of M search regions; rows: see `StagedTracker.forward`."""
        return self.template if rows is None else self.template[rows]


V = TypeVar("V", bound=OneStreamState)
"""State of a tracker that is built on this one."""


class OneStreamTracker(StagedTracker[V, T, R], Generic[V, T, R]):
    """Crop around the last box, multiply the scores by a Hann window, take the best candidate's box.

    The network has two entry points, for normalised crops: `encode_template(template)` -> tokens [B, Nz, C], and
    `locate(tokens, search)` -> `Candidates` or an output that has them in its attribute `candidates`. Where
    `encode_template` of the tracker gives a mask, it is a third argument of `locate`.

    Attributes:
        settings: Of the crops.
        window: [grid * grid], row-major.
        margin: A box keeps at least this many pixels inside the image.
        values: Of `row_keys`, for rows without settings of their own.
        windowed_confidence: The confidence is the best candidate's score with the window, not without.
        cell: Distance of two cells in units of the search region's side.
        online: ONLINE; None leaves it out, and so do roll-outs.
    """

    margin = 10.0
    windowed_confidence = True
    online: OnlineFilter | None = None
    row_keys: tuple[str, ...] = ("search_factor",)
    tracker_keys: tuple[str, ...] = ("template_factor",)

    def __init__(self, network: nn.Module, settings: CropSettings, grid: int) -> None:
        self.network = network.eval()
        self.settings = settings
        self.crop_style = settings.style.build(CROP_STYLES)
        self.device = next(network.parameters()).device
        self.grid, self.cell = grid, 1 / grid
        self.normalise = Normalise(settings.mean, settings.std, channels=settings.channels).to(self.device)
        self.window = hann2d(grid).flatten().to(self.device)
        self.values = {"search_factor": settings.search_factor}

    def with_settings(self, state: V, settings: Mapping[str, float]) -> V:
        row = torch.tensor([settings[key] for key in self.row_keys], dtype=torch.float64)
        return replace(state, settings=row.repeat(len(state.boxes_xywh), 1))

    def row_values(self, key: str, state: V) -> list[float]:
        """One of `row_keys` for each of B targets."""
        if state.settings is None:
            return [self.values[key]] * len(state.boxes_xywh)
        return state.settings[:, self.row_keys.index(key)].tolist()

    def setting(self, key: str, state: V, rows: Tensor | None = None) -> float | Tensor:
        """One of `row_keys`, to compute with on the device.

        Args:
            key: Its name.
            state: Of B targets.
            rows: See `StagedTracker.forward`.

        Returns:
            The tracker's, or [M, 1] float64 on its device where rows have settings of their own.
        """
        if state.settings is None:
            return self.values[key]
        column = to_device(state.settings[:, self.row_keys.index(key), None], self.device)
        return column if rows is None else column[rows]

    def procedure(self) -> dict[str, Any]:
        """Settings for a program that tracks with the exported network alone, by name; JSON-able."""
        damping = {} if self.size_momentum is None else {"size_momentum": self.size_momentum}
        return {"crop": asdict(self.settings), **damping}

    @torch.no_grad()
    def init(self, frames: Frames, boxes_xywh: Tensor) -> V:
        state = super().init(frames, boxes_xywh)
        if self.online is None:
            return state

        def search_around(around: Tensor) -> tuple[R, TrackerOutput]:
            region = self.crop_search(replace(state, boxes_xywh=around), frames)
            return region, self.forward(state, region)

        return replace(state, online=self.online.init_state(checked_boxes(frames, boxes_xywh), search_around))

    def crop_template(self, frames: Frames, boxes_xywh: Tensor) -> T:
        s, seen, boxes = self.settings, self.input_frames(frames), checked_boxes(frames, boxes_xywh)
        padding = self.crop_style.borders(seen)
        crops = self.crop_style.crop_frames(seen, boxes, s.template_factor, s.template_size, padding, self.device)
        return cast("T", TemplateRegion(crops.pixels, crops.boxes_xywh, padding))

    def encode_template(self, region: T) -> tuple[Tensor, Tensor | None]:
        """Tokens of the templates [B, Nz, C], and a mask of them [B, Nz] bool for networks that need one."""
        return self.network.encode_template(self.normalise(region.crops)), None

    def init_state(self, region: T, encoded: tuple[Tensor, Tensor | None], boxes_xywh: Tensor) -> V:
        return cast("V", OneStreamState(boxes_xywh, *encoded, region.padding))

    def crop_search(self, state: V, frames: Frames) -> R:
        seen, size = self.input_frames(frames), self.settings.search_size
        factors = self.row_values("search_factor", state)
        crops = self.crop_style.crop_frames(seen, state.boxes_xywh, factors, size, state.padding, self.device)
        sizes = torch.tensor([f.size_hw for f in frames], dtype=torch.float64)
        return cast("R", SearchRegion(crops.pixels, crops.centres, crops.sides, sizes))

    def forward(self, state: V, region: R, rows: Tensor | None = None) -> TrackerOutput:
        inputs, mask = [state.template_of(rows), self.normalise(region.crops)], state.template_mask
        if mask is not None:
            inputs.append(mask if rows is None else mask[rows])
        result = self.network.locate(*inputs)
        return self.output(result.candidates, state, region, rows)

    def output(self, candidates: Candidates, state: V, region: R, rows: Tensor | None = None) -> TrackerOutput:
        """The head's candidates as the result of `forward`, with window and policy logits.

        Policies draw from the windowed scores, or from the probabilities of a corner head's two corners.

        Args:
            candidates: Of M search regions.
            state, region, rows: The arguments of `forward`.
        """
        if self.online is not None and state.online is not None:
            candidates = self.online.mix(candidates, state.online, rows)
        if candidates.scores.shape[1] == 1:
            return TrackerOutput(candidates, None, candidates.maps.get("corners"))
        windowed = self.apply_window(candidates, state, region, rows)
        return TrackerOutput(candidates, windowed, windowed)

    def postprocess(
        self, state: V, region: R, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[V, Prediction]:
        local, scores = self.select_box(state, region, output, policy)
        sizes = self.damp_sizes(state.boxes_xywh[:, 2:] / region.sides, local[:, 2:], scores)
        local = torch.cat([local[:, :2], sizes], dim=1)
        boxes = self.clip_box(self.crop_style.to_image(local, region.centres, region.sides), region.sizes_hw)
        return replace(state, boxes_xywh=boxes), Prediction(boxes, scores, output.windowed_scores)

    def update(self, state: V, frames: Frames, region: R, output: TrackerOutput, prediction: Prediction) -> V:
        """Let the filter of ONLINE learn."""
        if self.online is None or state.online is None:
            return state
        return replace(state, online=self.online.learn(state.online, region, output.candidates, prediction))

    def input_frames(self, frames: Frames) -> Frames:
        """The frames with the pictures that the network reads.

        Raises:
            ValueError: The network reads two pictures and a frame has one.
        """
        if not self.reads_aux:
            return [f if f.second is None else Frame(f.rgb) for f in frames]
        if any(f.second is None for f in frames):
            raise ValueError(
                "this tracker reads frames of two pictures (RGB and thermal, depth or events), but there is RGB alone; "
                "give it an RGB-X benchmark, or --aux in the demo"
            )
        return frames

    def apply_window(self, candidates: Candidates, state: V, region: R, rows: Tensor | None = None) -> Tensor:
        """Weigh the scores by the window and by penalties.

        Args:
            candidates: Of M search regions.
            state, region, rows: The arguments of `forward`; penalties on size and shape read them.

        Returns:
            Windowed scores [M, N], differentiable.
        """
        return candidates.scores * self.window

    def select_box(
        self, state: V, region: R, output: TrackerOutput, policy: Policy | None = None
    ) -> tuple[Tensor, Tensor]:
        """The chosen candidates' boxes.

        Args:
            state, region, output: Of B search regions.
            policy: Chooses in place of the highest windowed score.

        Returns:
            Boxes [B, 4] cx, cy, w, h in units of the crop's side (float64) and confidences [B] (float32), on the CPU.
        """
        candidates, windowed = output.candidates, output.windowed_scores
        if windowed is None:
            boxes, score = candidates.boxes[:, 0], candidates.scores[:, :1]
            if policy is not None and output.policy_logits is not None:
                choice = policy(output.policy_logits)
                drawn = boxes_from_corners(choice, candidates.maps["corners"])
                boxes = torch.where(choice[:, :1] < 0, boxes, drawn)
        else:
            index = output.choose(policy)
            boxes = candidates.boxes_at(index)
            score = (windowed if self.windowed_confidence else candidates.scores).gather(1, index[:, None])
        packed = torch.cat([boxes, score], dim=1).cpu().double()
        return packed[:, :4], packed[:, 4].float()

    def clip_box(self, boxes_xywh: Tensor, sizes_hw: Tensor) -> Tensor:
        """Move and cut boxes so that enough of each lies in its image.

        Args:
            boxes_xywh: [B, 4] in image pixels.
            sizes_hw: [B, 2] height and width of the images.
        """
        return clip_boxes(boxes_xywh, sizes_hw, self.margin)


def hann2d(size: int) -> Tensor:
    """Hann window of two dimensions without the zeros at its border, as OSTrack has it.

    Returns:
        [size, size] float32, the outer product of 0.5 (1 - cos(2 pi i / (size + 1))), i = 1..size.
    """
    steps = torch.arange(1, size + 1, dtype=torch.float32)
    one = 0.5 * (1 - torch.cos((2 * torch.pi / (size + 1)) * steps))
    return one[:, None] * one[None, :]


def hanning2d(size: int) -> Tensor:
    """Hann window of two dimensions with zeros at its border, as TransT has it.

    Returns:
        [size, size] float32, the outer product of symmetric windows as `numpy.hanning` computes them.
    """
    one = torch.hann_window(size, periodic=False, dtype=torch.float64)
    return (one[:, None] * one[None, :]).float()


def mix_window(scores: Tensor, window: Tensor, influence: float | Tensor) -> Tensor:
    """Windowed scores ``(1 - influence) * scores + influence * window``.

    Args:
        scores: [M, N].
        window: [N].
        influence: One number, or [M, 1] float64.
    """
    if isinstance(influence, Tensor):
        return scores * (1 - influence).to(scores) + window * influence.to(scores)
    return scores * (1 - influence) + window * influence
