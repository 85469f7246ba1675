"""Tracking by one template and one search region per frame: what OSTrack and its descendants share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lib.data.boxes import clip_boxes
from lib.data.crop import crop_batch
from lib.data.normalise import Normalise
from lib.data.types import Frame
from lib.models.heads.boxes import BoxMaps
from lib.models.inference import prepare, reads_pixels
from lib.models.layers.fused import Plan
from lib.track.protocol import Policy, Prediction, State, Tracker, checked_boxes, greedy
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
    reads_aux: whether the network takes the second picture of RGB+X frames; a tracker that does not leaves it aside.
    """

    margin = 10.0
    reads_aux = False

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

    def prepare(self, dtype: torch.dtype = torch.float32, compiled: bool = False) -> bool:
        """Fold what is constant into the weights, normalisation too; see `lib.models.inference`."""
        if dtype not in (torch.float32, torch.bfloat16):
            return super().prepare(dtype, compiled)
        pixels = self.normalise if isinstance(self.normalise, Normalise) else None
        self.network = prepare(self.network, Plan(dtype, pixels, pack=not compiled, grid=self.grid))
        if reads_pixels(self.network):
            self.normalise = nn.Identity()
        if compiled:
            self.compile_network()
        return True

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
        return frames if self.reads_aux else [f if f.aux is None else Frame(f.rgb) for f in frames]

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
