"""Tracking by one template and one search region per frame: what OSTrack and its descendants share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lib.data import CROP_STYLES, Frame, Normalise, clip_boxes
from lib.models.heads import BoxMaps
from lib.track.exploring import SearchRegion, StagedTracker, TemplateRegion, TrackerOutput
from lib.track.protocol import Policy, Prediction, State, checked_boxes, greedy
from lib.track.window import hann2d


@dataclass(frozen=True)
class CropSettings:
    """Sides in pixels and context factors of both regions; normalisation; style: a name of `lib.data.CROP_STYLES`."""

    template_size: int
    template_factor: float
    search_size: int
    search_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    style: str = "area"
    channels: str = "RGB"


@dataclass
class OneStreamState(State):
    """boxes_xywh: [B, 4] float64 on the CPU, image pixels. template: [B, Nz, C] tokens, computed once.

    template_mask: [B, Nz] bool, or None where the network needs none. padding: [B, C] on the CPU, the colours beyond
    the first frames, in crop styles that have some.
    """

    boxes_xywh: Tensor
    template: Tensor
    template_mask: Tensor | None = None
    padding: Tensor | None = None


@dataclass
class OneStreamTemplate(TemplateRegion):
    """padding: [B, C] on the CPU, see `OneStreamState`."""

    padding: Tensor | None = None


class OneStreamTracker(StagedTracker[OneStreamState, OneStreamTemplate, SearchRegion]):
    """Crop round the last box, multiply the score map by a Hann window, take the best cell's box.

    Subclasses say how their network is called. margin: a box keeps at least this many pixels inside the image.
    """

    margin = 10.0

    def __init__(self, network: nn.Module, settings: CropSettings, grid: int) -> None:
        self.network = network.eval()
        self.settings = settings
        self.crop_style = CROP_STYLES[settings.style]()
        first = next(network.parameters())
        self.device = first.device
        self.grid = grid
        # Identity once it is part of the network.
        self.normalise: nn.Module = Normalise(settings.mean, settings.std, channels=settings.channels).to(self.device)
        self.window = hann2d(grid).flatten().to(self.device)

    @abstractmethod
    def encode_template(self, crops: Tensor, boxes_xywh: Tensor) -> tuple[Tensor, Tensor | None]:
        """Crops [B, C, T, T] and the targets in them [B, 4] (units of the crop's side) -> tokens, mask.

        Crops are normalised here and in `locate`, unless the network does that.
        """

    @abstractmethod
    def locate(self, state: OneStreamState, crops: Tensor) -> BoxMaps:
        """Search crops [B, C, S, S] -> maps."""

    def procedure(self) -> dict[str, Any]:
        """The tracker's settings for a program that tracks with the exported network alone; JSON-able."""
        return {"crop": asdict(self.settings)}

    def crop_template(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> OneStreamTemplate:
        s = self.settings
        boxes = checked_boxes(frames, boxes_xywh)
        seen = self._seen(frames)
        padding = self.crop_style.borders(seen)
        crops = self.crop_style.crop_frames(seen, boxes, s.template_factor, s.template_size, padding)
        return OneStreamTemplate(crops.pixels.to(self.device), crops.boxes_xywh, padding)

    def init_state(self, target: OneStreamTemplate, boxes_xywh: Tensor) -> OneStreamState:
        tokens, mask = self.encode_template(self.normalise(target.crops), target.boxes_xywh)
        return OneStreamState(boxes_xywh, tokens, mask, target.padding)

    def crop_search(self, state: OneStreamState, frames: Sequence[Frame]) -> SearchRegion:
        s, seen = self.settings, self._seen(frames)
        crops = self.crop_style.crop_frames(seen, state.boxes_xywh, s.search_factor, s.search_size, state.padding)
        sizes = torch.tensor([f.size_hw for f in frames], dtype=torch.float64)
        return SearchRegion(crops.pixels.to(self.device), crops.centres, crops.sides, sizes)

    def forward(self, state: OneStreamState, view: SearchRegion) -> TrackerOutput:
        return self.output_of(self.locate(state, self.normalise(view.crops)))

    def output_of(self, maps: BoxMaps, memory: Tensor | None = None) -> TrackerOutput:
        """The network's maps as an opinion on every cell; memory: see `TrackerOutput`."""
        scores = maps.score_map.flatten(1)
        scores = scores if scores.dtype == torch.float64 else scores.float()
        return TrackerOutput(self.apply_window(scores) if maps.per_cell else None, scores, maps, memory)

    def postprocess(
        self, state: OneStreamState, view: SearchRegion, output: TrackerOutput, policy: Policy = greedy
    ) -> tuple[OneStreamState, Prediction]:
        local, scores = self.select_box(output, policy)
        boxes = self.clip_box(self.crop_style.to_image(local, view.centres, view.sides), view.sizes_hw)
        return replace(state, boxes_xywh=boxes), Prediction(boxes, scores, output.windowed_scores)

    def _seen(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        if not self.reads_aux:
            return [f if f.second is None else Frame(f.rgb) for f in frames]
        if any(f.second is None for f in frames):
            raise ValueError(
                "this tracker reads frames of two pictures (RGB and thermal, depth or events), but there is RGB alone; "
                "give it an RGB-X benchmark, or --aux in the demo"
            )
        return frames

    def select_box(self, output: TrackerOutput, policy: Policy) -> tuple[Tensor, Tensor]:
        """Boxes [B, 4] cx, cy, w, h in units of the crop's side (float64) and scores [B], on the CPU."""
        maps, scores, response = output.candidates, output.scores, output.windowed_scores
        if response is None:
            return maps.boxes_cxcywh.double().cpu(), scores.amax(dim=1).cpu()
        cells = policy(response)
        boxes = maps.boxes_at(cells)
        chosen = self.confidence(scores, response).gather(1, cells[:, None])
        packed = torch.cat([boxes, chosen], dim=1).double().cpu()
        return packed[:, :4], packed[:, 4].float()

    def apply_window(self, scores: Tensor) -> Tensor:
        """Scores [B, N] in 0..1 -> what the cell is chosen by, the window applied; differentiable."""
        return scores * self.window

    def confidence(self, scores: Tensor, response: Tensor) -> Tensor:
        """What is told of every cell [B, N] as a tracker's confidence, of the scores and the response to them."""
        return response

    def clip_box(self, boxes_xywh: Tensor, sizes_hw: Tensor) -> Tensor:
        """Boxes [B, 4], of which enough lies in the images of [B, 2] height, width to be looked for again."""
        return clip_boxes(boxes_xywh, sizes_hw, self.margin)
