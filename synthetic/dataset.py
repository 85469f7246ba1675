"""Worlds as a data set: frames are rendered on demand, nothing is on disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from lib.data import Frame, Mask, Modality, Video, depth_to_picture
from lib.registry import suggest
from synthetic.config import WorldConfig
from synthetic.crossmodal import DepthCamera, EventCamera, ThermalCamera
from synthetic.world import SyntheticWorld

_SEED_STEP = 1_000_003


class WorldCameras:
    """A world and the cameras that look at it."""

    def __init__(self, seed: int, config: WorldConfig) -> None:
        self.world = SyntheticWorld(seed, config)
        self.thermal = ThermalCamera(self.world) if config.modality is Modality.RGBT else None
        self.depth = DepthCamera(self.world) if config.modality is Modality.RGBD else None
        self.events = EventCamera(self.world) if config.modality is Modality.RGBE else None

    def aux(self, t: int) -> np.ndarray | None:
        """The second sensor gives: thermal [H, W] uint8, depth [H, W] uint16, events [H, W, 3] uint8; else None."""
        for camera in (self.thermal, self.depth, self.events):
            if camera is not None:
                return camera.render(t)
        return None

    def frame(self, t: int) -> Frame:
        """RGB, and the second picture as trackers see it (depth clipped and coloured)."""
        aux = self.aux(t)
        if aux is not None:
            aux = depth_to_picture(aux) if aux.dtype == np.uint16 else three_channels(aux)
        return Frame(self.world.render(t), aux)


def three_channels(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] from [H, W] or [H, W, 1] (a thermal camera), or from [H, W, 3]."""
    if picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    grey = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    if grey.ndim != 2:
        raise ValueError(f"expected a picture of one or three channels, found shape {picture.shape}")
    return np.repeat(grey[..., None], 3, axis=2)


@dataclass
class _CameraCache:
    """The studios used last, per process; a copy sent to another process starts empty."""

    config: WorldConfig
    capacity: int
    _open: OrderedDict[int, WorldCameras] = field(default_factory=OrderedDict)

    def get(self, seed: int) -> WorldCameras:
        cameras = self._open.pop(seed, None) or WorldCameras(seed, self.config)
        self._open[seed] = cameras
        if len(self._open) > self.capacity:
            self._open.popitem(last=False)
        return cameras

    def read(self, seed: int, t: int) -> Frame:
        return self.get(seed).frame(t)

    def read_mask(self, seed: int, t: int) -> Mask:
        return self.get(seed).world.visible_mask(t)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}


class SyntheticDataset:
    """`sequences` worlds of one configuration; world k of seed s is the same everywhere (for one generator version).

    Boxes of absent frames are zero and not valid; see `synthetic.truth.Truth` for the conventions.

    Args:
        seed: Seed of the data set.
        sequences: Number of worlds.
        config: Their settings.
        name: Name of the data set.
        cache: Number of painted worlds that each process keeps (about 2 MB each at 320 x 240).
    """

    is_video = True

    def __init__(
        self,
        seed: int = 0,
        sequences: int = 1000,
        config: WorldConfig | None = None,
        name: str = "synthetic",
        cache: int = 32,
    ) -> None:
        if sequences < 1:
            raise ValueError(f"a synthetic data set needs at least 1 sequence, not {sequences}")
        self.seed = seed
        self.sequences = sequences
        self.config = config or WorldConfig()
        self.name = name
        self.modality = self.config.modality
        self._cameras = _CameraCache(self.config, max(1, cache))

    def __len__(self) -> int:
        return self.sequences

    def world_seed(self, index: int) -> int:
        """The seed of world `index`."""
        return self.seed * _SEED_STEP + index

    def cameras(self, index: int) -> WorldCameras:
        """SyntheticWorld `index` with its cameras, from the cache where it is there."""
        return self._cameras.get(self.world_seed(index))

    def __getitem__(self, index: int) -> Video:
        if not 0 <= index < self.sequences:
            raise IndexError(f"{self.name} has {self.sequences} sequences; there is no number {index}")
        truth = self.cameras(index).world.truth
        name = f"{self.name}-{self.seed}-{index:06d}"
        return Video(
            name=name,
            boxes_xywh=truth.boxes_xywh,
            valid=np.asarray((truth.boxes_xywh[:, 2:] > 0).all(1)),
            visible=~truth.absent,
            read_frame=partial(self._cameras.read, self.world_seed(index)),
            frame_path=partial(_frame_path, name),
            modality=self.modality,
            visible_ratio=truth.visible_fraction,
            attributes=truth.attributes,
            dataset=self.name,
            read_mask=partial(self._cameras.read_mask, self.world_seed(index)),
        )

    def __iter__(self) -> Iterator[Video]:
        return (self[i] for i in range(self.sequences))


def _frame_path(name: str, index: int) -> str:
    return f"{name}/{index:06d} (rendered)"


_NUMBERS = ("seed", "sequences", "length", "width", "height", "distractors", "lifelike", "cache")


def build_synthetic(name: str = "SYNTHETIC") -> SyntheticDataset:
    """The data set of a YAML name: ``SYNTHETIC``, ``SYNTHETIC:rgbt``, ``SYNTHETIC:seed=7,length=40,modality=rgbd``.

    Keys: seed, sequences, length, width, height, distractors, difficulty (0..1), modality (rgb, rgbt, rgbd, rgbe),
    attributes (joined by +), pictures (a folder), lifelike (0 or 1), cache. Raises ValueError naming what is wrong.
    """
    given: dict[str, Any] = {}
    for piece in filter(None, name.partition(":")[2].split(",")):
        key, equals, value = (x.strip() for x in piece.partition("="))
        if not equals:
            key, value = "modality", key
        given[key] = _parse(name, key, value)
    config = WorldConfig()
    keys = {k: given.pop(k) for k in list(given) if k in WorldConfig.__dataclass_fields__}
    return SyntheticDataset(config=replace(config, **keys), **given)


def _parse(name: str, key: str, value: str) -> Any:
    known = [*_NUMBERS, "difficulty", "modality", "attributes", "pictures"]
    if key not in known:
        raise ValueError(f"data set {name!r}: unknown key {key!r}{suggest(key, known)} (known: {', '.join(known)})")
    if key == "pictures":
        return value
    if key == "attributes":
        return tuple(value.split("+"))
    try:
        if key == "modality":
            return Modality(value.lower())
        return float(value) if key == "difficulty" else bool(int(value)) if key == "lifelike" else int(value)
    except ValueError:
        kind = "rgb, rgbd, rgbt or rgbe" if key == "modality" else "a number"
        raise ValueError(f"data set {name!r}: {key} must be {kind}, not {value!r}") from None
