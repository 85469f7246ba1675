"""One synthetic sequence: every frame can be rendered by itself, with the truth that belongs to it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Image, Mask
from synthetic.arrays import u8
from synthetic.config import WorldConfig
from synthetic.draw import Grey, PaintedPart, draw_figure, paint_part, silhouette, streak
from synthetic.effects import PhotoEffects
from synthetic.figure import Camera, Figure, inverse
from synthetic.pictures import open_pictures
from synthetic.plan import WorldPlan, draw_plan
from synthetic.scene import Scene, paint_scene
from synthetic.truth import Truth, find_truth

Canvas = TypeVar("Canvas", NDArray[np.uint8], NDArray[np.float32])


class SyntheticWorld:
    """The world of `seed`: a plan (made at once), truth and paint (made on first use).

    The same seed and configuration give the same frames on every machine, up to the rounding of OpenCV.
    Figures are drawn back to front: scene, objects behind, target, objects in front.
    """

    def __init__(self, seed: int, config: WorldConfig | None = None) -> None:
        self.seed = seed
        self.config = config or WorldConfig()
        self.plan: WorldPlan = draw_plan(seed, self.config)

    def __len__(self) -> int:
        return self.config.length

    @cached_property
    def truth(self) -> Truth:
        """Boxes, visibility and attributes; see `Truth` for the conventions."""
        return find_truth(self.plan)

    @cached_property
    def scene(self) -> Scene:
        pictures = open_pictures(self.config.pictures) if self.config.pictures else None
        return paint_scene(self.plan.backdrop, self.config.width, self.config.height, pictures)

    @cached_property
    def sheets(self) -> dict[int, list[PaintedPart]]:
        """Painted skins of every figure, by its `id`."""
        t = np.arange(self.config.length, dtype=np.float64)
        sheets = {}
        for figure in self.figures:
            half = figure.log_aspect(t) / 2
            finest = float(np.exp((figure.log_scale(t) + np.abs(half)).max()))
            sheets[id(figure)] = [paint_part(part, finest) for part in figure.parts]
        return sheets

    @cached_property
    def _photo_effects(self) -> PhotoEffects:
        return PhotoEffects(self.plan.look, self.seed, self.config.width, self.config.height)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All moving objects, back to front."""
        return (*self.plan.behind, self.plan.target, *self.plan.front)

    def check_frame(self, t: int) -> None:
        if not 0 <= t < self.config.length:
            raise IndexError(f"frame {t} of a synthetic sequence of {self.config.length} frames")

    def render(self, t: int) -> Image:
        """The RGB photograph of frame t, [height, width, 3] uint8."""
        self.check_frame(t)
        return self._photo_effects.develop(self.render_clean(t), t, max(0.02, self.plan.light(t)))

    def render_clean(self, t: float, sharp: bool = False) -> Image:
        """The scene at the moment t (fractions allowed) in daylight, by a perfect lens; motion blur unless `sharp`."""
        frame = self.warp(self.scene.canvas, t)
        shutter = 0.0 if sharp else self.plan.shutter
        camera = self._smear(self.plan.camera, t, (self.config.width * 0.75, self.config.height * 0.75), shutter)
        if camera is not None:
            frame = u8(cv2.filter2D(frame, -1, camera))
        for figure in self.figures:
            blur = self._smear(figure, t, (0.0, 0.0), shutter)
            draw_figure(frame, figure, self.sheets[id(figure)], t, blur)
        return frame

    def warp(self, canvas: Canvas, t: float, smooth: bool = True) -> Canvas:
        """The canvas as the camera sees it at the moment t; not `smooth` keeps its values as they are."""
        m = inverse(self.plan.camera.matrices(t))
        flags = (cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST) | cv2.WARP_INVERSE_MAP
        size = (self.config.width, self.config.height)
        seen = cv2.warpAffine(canvas, m, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return cast(Canvas, seen)

    @staticmethod
    def _smear(
        mover: Figure | Camera, t: float, point: tuple[float, float], shutter: float
    ) -> NDArray[np.float32] | None:
        """Blur of what a point of the figure (or scene) travels while the shutter is open, at most 40 pixels."""
        step = mover.matrices(t + 1.0) - mover.matrices(t)
        dx, dy = ((step[:, :2] @ point + step[:, 2]) * shutter).tolist()
        far = max(1.0, math.hypot(dx, dy) / 40.0)
        return streak(dx / far, dy / far)

    def silhouette(self, t: int) -> Grey:
        """[height, width] uint8 mask of the target, as if nothing were in front of it."""
        self.check_frame(t)
        return silhouette(self.plan.target, t, self.config.width, self.config.height)

    def visible_mask(self, t: int) -> Mask:
        """[height, width] bool, the target's pixels that nothing is in front of."""
        hidden = [silhouette(figure, t, self.config.width, self.config.height) > 127 for figure in self.plan.front]
        mask: Mask = self.silhouette(t) > 127
        for other in hidden:
            mask &= ~other
        return mask
