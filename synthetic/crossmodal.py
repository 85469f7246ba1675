"""The second picture of a frame - thermal, depth, events - of the same world, in the same geometry."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Image
from synthetic import textures
from synthetic.arrays import u8
from synthetic.draw import Grey, PaintedPart, draw_figure, fill, grey, window
from synthetic.figure import Figure
from synthetic.signals import stream
from synthetic.world import SyntheticWorld

SCENE_WARMTH = 70.0
"""Mean grey level of the scene on the thermal picture."""
EVENT_POSITIVE, EVENT_NEGATIVE = (220, 30, 30), (30, 30, 200)
"""RGB colours of brighter and darker, on white, as in VisEvent's pictures."""
_THRESHOLD = 0.18
_SUBFRAMES = (-0.6, -0.3, 0.0)


class ThermalCamera:
    """A thermal camera: warm objects on a cooler scene with textures of its own; no light, no shadows.

    Where the plan has a thermal crossover the target takes the temperature of the scene for a while.
    """

    def __init__(self, world: SyntheticWorld) -> None:
        self._world = world
        self._noise = stream(world.seed, "thermal noise").uniform(0.8, 3.0)

    @cached_property
    def _canvas(self) -> Grey:
        scene, rng = self._world.scene, stream(self._world.seed, "thermal scene")
        h, w = scene.canvas.shape[:2]
        field = textures.fractal(rng, h, w, rng.uniform(20, 120), rng.uniform(0.4, 0.7))
        seen = cv2.GaussianBlur(grey(scene.canvas), (0, 0), 1.5)
        canvas = np.clip(SCENE_WARMTH - 20 + 12 * field + 0.16 * seen, 0, 255).astype(np.uint8)
        for thing in scene.things:
            mask = np.zeros((h, w), np.uint8)
            for outline in thing.outlines(0.0):
                fill(mask, outline, 0, 0)
            canvas[mask > 127] = int(40 + 190 * thing.heat)
        return u8(cv2.GaussianBlur(canvas, (0, 0), 0.8))

    @cached_property
    def _sheets(self) -> list[list[PaintedPart]]:
        rng = stream(self._world.seed, "thermal figures")
        return [self._warm(rng, figure, self._world.sheets[id(figure)]) for figure in self._world.figures]

    @staticmethod
    def _warm(rng: np.random.Generator, figure: Figure, sheets: list[PaintedPart]) -> list[PaintedPart]:
        warm = []
        for sheet in sheets:
            texture = grey(sheet.picture).astype(np.float32)
            level = 40 + 190 * figure.heat + rng.normal(0, 10)
            picture = np.clip(level + 0.15 * (texture - texture.mean()), 0, 255).astype(np.uint8)
            warm.append(replace(sheet, picture=picture))
        return warm

    def render(self, t: int) -> Grey:
        """[height, width] uint8, brighter is hotter."""
        frame = self._world.warp(self._canvas, t)
        share = float(np.clip(self._world.plan.crossover(float(t)), 0, 1))
        for figure, sheets in zip(self._world.figures, self._sheets, strict=True):
            if figure is self._world.plan.target and share > 0:
                sheets = [
                    replace(s, picture=u8(cv2.convertScaleAbs(s.picture, alpha=1 - share, beta=share * SCENE_WARMTH)))
                    for s in sheets
                ]
            draw_figure(frame, replace(figure, shadow=0.0, opacity=1.0), sheets, float(t))
        frame = u8(cv2.GaussianBlur(frame, (0, 0), 0.7))
        noise = np.random.default_rng([self._world.seed, t, 1]).standard_normal(frame.shape, dtype=np.float32)
        return u8(cv2.add(frame, noise * np.float32(self._noise), dtype=cv2.CV_8U))


class DepthCamera:
    """A depth camera: layers in millimetres, a floor that comes nearer downwards, noisy far off, holes."""

    def __init__(self, world: SyntheticWorld) -> None:
        self._world = world
        rng = stream(world.seed, "depth")
        self._base = float(np.exp(rng.uniform(np.log(1500), np.log(4500))))
        self._far = rng.uniform(2.4, 4.0)

    @cached_property
    def _canvas(self) -> NDArray[np.float32]:
        scene = self._world.scene
        h, w = scene.canvas.shape[:2]
        floor = np.linspace(self._far, 1.75, h, dtype=np.float32)[:, None]
        relief = textures.fractal(stream(self._world.seed, "depth scene"), h, w, 80, 0.6)
        canvas = np.asarray(floor * self._base * (1 + 0.015 * relief), dtype=np.float32)
        for thing in scene.things:
            mask = np.zeros((h, w), np.uint8)
            for outline in thing.outlines(0.0):
                fill(mask, outline, 0, 0)
            row = int(np.clip(thing.y.base, 0, h - 1))
            canvas[mask > 127] = 0.97 * canvas[row].mean()
        return canvas

    @cached_property
    def _gaps(self) -> NDArray[np.float32]:
        h, w = self._world.config.height, self._world.config.width
        return textures.fractal(stream(self._world.seed, "depth gaps"), h, w + 64, 24, 0.7)

    def render(self, t: int) -> NDArray[np.uint16]:
        """[height, width] uint16 millimetres, 0 where nothing was measured."""
        world = self._world
        depth = world.warp(self._canvas, t, smooth=False)
        height, width = depth.shape
        for figure in world.figures:
            outlines = figure.outlines(float(t))
            view = window(outlines, 1.0, width, height)
            if view is None:
                continue
            x0, y0, x1, y1 = view
            mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
            for outline in outlines:
                fill(mask, outline, x0, y0)
            away = self._base * figure.depth
            if figure is world.plan.target:
                away *= float(np.exp(0.5 * (figure.log_scale.base - figure.log_scale(float(t)))))
            depth[y0:y1, x0:x1][mask > 127] = away
        rng = np.random.default_rng([world.seed, t, 2])
        noise = rng.standard_normal(depth.shape, dtype=np.float32) * (1 + 2.5 * (depth / 1000) ** 2)
        gaps = self._gaps[:, t % 64 : t % 64 + width]
        edge = np.abs(depth - cv2.blur(depth, (5, 5))) > 0.06 * depth
        hole = (gaps > 2.6) | (edge & (gaps > 0.3)) | (depth > 20000)
        return np.where(hole, 0, np.clip(depth + noise, 1, 65535)).astype(np.uint16)


class EventCamera:
    """An event camera: where the logarithm of brightness rose or fell since shortly before the frame, on white."""

    def __init__(self, world: SyntheticWorld) -> None:
        self._world = world

    def _log_brightness(self, t: float) -> NDArray[np.float32]:
        light = np.log(max(0.02, self._world.plan.light(t)))
        picture = grey(self._world.render_clean(t, sharp=True)).astype(np.float32)
        return np.asarray(np.log(picture + 12.0) + np.float32(light), dtype=np.float32)

    def render(self, t: int) -> Image:
        """[height, width, 3] uint8 RGB."""
        logs = [self._log_brightness(t + dt) for dt in _SUBFRAMES]
        picture = np.full((*logs[0].shape, 3), 255, np.uint8)
        for before, after in itertools.pairwise(logs):
            change = after - before
            picture[change > _THRESHOLD] = EVENT_POSITIVE
            picture[change < -_THRESHOLD] = EVENT_NEGATIVE
        rng = np.random.default_rng([self._world.seed, t, 3])
        count = int(0.002 * picture.shape[0] * picture.shape[1])
        ys, xs = rng.integers(0, picture.shape[0], count), rng.integers(0, picture.shape[1], count)
        picture[ys, xs] = np.array([EVENT_POSITIVE, EVENT_NEGATIVE], np.uint8)[rng.integers(0, 2, count)]
        return picture
