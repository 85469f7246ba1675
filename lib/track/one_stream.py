"""Tracking by one template and one search region per frame: what OSTrack and its descendants share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.data.boxes import clip_boxes
from lib.data.crop import crop_batch
from lib.data.normalise import Normalise
from lib.data.types import Frame
from lib.models.engines import TORCH
from lib.models.engines.graphs import Examples, Graph, graphs_of, served
from lib.models.engines.quantise import quantised, watching
from lib.models.engines.sessions import Session
from lib.models.heads.boxes import BoxMaps
from lib.models.inference import prepare, reads_pixels
from lib.models.layers.fused import Plan
from lib.track.inference import PLAIN, Clip, Inference
from lib.track.protocol import Policy, Prediction, State, Tracker, checked_boxes, greedy
from lib.track.serving import export, serve
from lib.track.window import hann2d


@dataclass(frozen=True)
class CropSettings:
    """Sides in pixels and context factors of the two regions; normalisation."""

    template_size: int
    template_factor: float
    search_size: int
    search_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass
class OneStreamState(State):
    """boxes_xywh: [B, 4] float64 on the CPU, image pixels. template: [B, Nz, C] tokens, computed once.

    template_mask: [B, Nz] bool, or None where the network needs none.
    """

    boxes_xywh: Tensor
    template: Tensor
    template_mask: Tensor | None = None


class OneStreamTracker(Tracker[OneStreamState]):
    """Crop round the last box, multiply the score map by a Hann window, take the best cell's box.

    Subclasses say how their network is called. margin: a box keeps at least this many pixels inside the image.
    """

    margin = 10.0

    def __init__(self, network: nn.Module, settings: CropSettings, grid: int) -> None:
        self.network = network.eval()
        self.settings = settings
        first = next(network.parameters())
        self.device = first.device
        self.grid = grid
        # Identity once it is part of the network.
        self.normalise: nn.Module = Normalise(settings.mean, settings.std).to(self.device)
        self.window = hann2d(grid).flatten().to(self.device)

    @abstractmethod
    def encode_template(self, crops: Tensor, boxes_xywh: Tensor) -> tuple[Tensor, Tensor | None]:
        """Crops [B, C, T, T] and the targets in them [B, 4] (units of the crop's side) -> tokens, mask.

        Crops are normalised here and in `locate`, unless the network does that.
        """

    @abstractmethod
    def locate(self, state: OneStreamState, crops: Tensor) -> BoxMaps:
        """Search crops [B, C, S, S] -> maps."""

    def prepare(self, how: Inference = PLAIN) -> bool:
        """Fold what is constant into the weights, normalisation too; see `lib.models.inference`."""
        if how.engine != TORCH:
            serve(self, how)
            return True
        if how.dtype not in (torch.float32, torch.bfloat16):
            return super().prepare(how)
        self._fold(Plan(how.dtype, pack=not how.compiled, grid=self.grid))
        if how.compiled:
            self.compile_network()
        return True

    def export(self, folder: Path, how: Inference, file_format: str = "onnx") -> dict[str, Any]:
        """Graphs "template" and "frame", for any number of rows; crops are uint8 pixels."""
        return {**export(self, folder, how, file_format), "crop": asdict(self.settings)}

    def graphs(self, int8: bool, clips: Sequence[Clip] = ()) -> dict[str, Graph]:
        """What `lib.track.serving` hands to an engine. The tracker's network becomes the one that is exported."""
        self._fold(Plan(pack=False, grid=self.grid, portable=True))
        if int8:
            with watching(self.network) as seen:
                self._walk(clips)
            self.network = quantised(self.network, seen)
        return graphs_of(self.network, self.normalise, self._examples())

    def use(self, template: Session, frame: Session) -> None:
        """Let these graphs, which normalise by themselves, do the network's work."""
        self.network, self.normalise = served(self.network, template, frame), nn.Identity()

    def _fold(self, plan: Plan) -> None:
        pixels = self.normalise if isinstance(self.normalise, Normalise) else None
        self.network = prepare(self.network, replace(plan, pixels=pixels))
        if reads_pixels(self.network):
            self.normalise = nn.Identity()

    def _walk(self, clips: Sequence[Clip]) -> None:
        """Look for the target of every clip where it is, whatever is found there."""
        for clip in clips:
            state = self.init(clip.frames[:1], clip.boxes_xywh[:1])
            for i in range(1, len(clip.frames)):
                self.step(replace(state, boxes_xywh=clip.boxes_xywh[i : i + 1]), [clip.frames[i]])

    @torch.no_grad()
    def _examples(self) -> Examples:
        s, channels = self.settings, 6 if self.reads_aux else 3
        generator = torch.Generator().manual_seed(0)
        template, search = (
            torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8, generator=generator)
            for size in (s.template_size, s.search_size)
        )
        boxes = torch.tensor([[0.25, 0.25, 0.5, 0.5]], dtype=torch.float64).expand(2, 4)
        tokens, mask = self.encode_template(self.normalise(template), boxes)
        return Examples(template, search, tokens, mask)

    def compile_network(self) -> None:
        """Compile what a step calls: the network's `locate`, or the whole network where that is missing."""
        locate = getattr(self.network, "locate", self.network.forward)
        setattr(self.network, locate.__name__, torch.compile(locate))

    @torch.inference_mode()
    def init(self, frames: Sequence[Frame], boxes_xywh: Tensor) -> OneStreamState:
        s = self.settings
        boxes = checked_boxes(frames, boxes_xywh)
        crops, resize = crop_batch(self._seen(frames), boxes, s.template_factor, s.template_size)
        centred = torch.cat(
            [torch.full_like(boxes[:, :2], (s.template_size - 1) / 2), boxes[:, 2:] * resize[:, None]], 1
        )
        centred[:, :2] -= centred[:, 2:] / 2
        tokens, mask = self.encode_template(self.normalise(crops.to(self.device)), centred / s.template_size)
        return OneStreamState(boxes, tokens, mask)

    @torch.inference_mode()
    def step(
        self, state: OneStreamState, frames: Sequence[Frame], policy: Policy = greedy
    ) -> tuple[OneStreamState, Prediction]:
        s = self.settings
        crops, resize = crop_batch(self._seen(frames), state.boxes_xywh, s.search_factor, s.search_size)
        maps = self.locate(state, self.normalise(crops.to(self.device)))
        local, response, scores = self.choose(maps, policy)
        boxes = to_image(local, state.boxes_xywh, s.search_size / resize)
        sizes = torch.tensor([f.size_hw for f in frames], dtype=torch.float64)
        boxes = clip_boxes(boxes, sizes, self.margin)
        return replace(state, boxes_xywh=boxes), Prediction(boxes, scores, response)

    def _seen(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        if not self.reads_aux:
            return [f if f.second is None else Frame(f.rgb) for f in frames]
        if any(f.second is None for f in frames):
            raise ValueError(
                "this tracker reads frames of two pictures (RGB and thermal, depth or events), but there is RGB alone; "
                "give it an RGB-X benchmark, or --aux in the demo"
            )
        return frames

    def choose(self, maps: BoxMaps, policy: Policy) -> tuple[Tensor, Tensor | None, Tensor]:
        """Boxes [B, 4] cx, cy, w, h in units of the crop's side (float64, CPU), response [B, N], scores [B]."""
        scores = maps.score_map.flatten(1).float()
        if maps.size_map is None or maps.offset_map is None:
            return maps.boxes_cxcywh.double().cpu(), None, scores.amax(dim=1).cpu()
        response = scores * self.window
        cells = policy(response)
        boxes = maps.boxes_at(cells)
        chosen = response.gather(1, cells[:, None]).squeeze(1)
        packed = torch.cat([boxes, chosen[:, None]], dim=1).double().cpu()
        return packed[:, :4], response, packed[:, 4].float()


def to_image(boxes_cxcywh: Tensor, previous_xywh: Tensor, side: Tensor) -> Tensor:
    """Boxes of the search crop (units of its side) -> x, y, w, h in image pixels; all float64.

    previous_xywh: [B, 4] the crops' centres; side: [B] the crops' sides in image pixels. The crop's rounding to whole
    pixels is left out of account, as in published trackers.
    """
    centre = previous_xywh[:, :2] + previous_xywh[:, 2:] / 2
    side = side[:, None]
    size = boxes_cxcywh[:, 2:] * side
    return torch.cat([centre + boxes_cxcywh[:, :2] * side - side / 2 - size / 2, size], dim=1)
