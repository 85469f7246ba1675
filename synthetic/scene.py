"""The still part of a world: one oversized picture of ground, walls, sky and things, over which the camera moves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from lib.data import Image
from synthetic import textures
from synthetic.arrays import u8
from synthetic.draw import draw_figure, paint_part
from synthetic.figure import Figure
from synthetic.forms import build_parts, pick_form
from synthetic.palette import Palette, any_material, material, object_palette, ramp
from synthetic.pictures import PictureFolder, colours_of, piece, read_photo
from synthetic.signals import Signal, stream

MARGIN = 1.5
"""The canvas is that many times wider and higher than the frame; beyond it the scene is mirrored."""

# kind of scene -> (share, materials, textures)
KINDS: dict[str, tuple[float, tuple[str, ...], tuple[str, ...]]] = {
    "ground": (
        4.0,
        ("grass", "dry_grass", "soil", "sand", "concrete", "asphalt", "snow"),
        ("cloud", "gravel", "blades", "cloud"),
    ),
    "foliage": (1.5, ("foliage", "grass", "dry_grass"), ("leaves", "blades", "cloud")),
    "horizon": (
        2.5,
        ("grass", "soil", "sand", "asphalt", "water", "concrete"),
        ("cloud", "gravel", "streaks", "blades"),
    ),
    "water": (0.8, ("water", "sky"), ("streaks", "cloud", "smooth")),
    "indoor": (2.0, ("wall", "wood", "concrete"), ("smooth", "gradient", "streaks", "bricks", "checks", "stripes")),
    "urban": (1.5, ("concrete", "brick", "wall", "asphalt"), ("windows", "bricks", "cloud", "gravel")),
    "plain": (1.2, ("wall", "sky", "concrete", "night", "snow"), ("smooth", "gradient")),
    "mosaic": (1.5, (), tuple(textures.TEXTURES)),
}

_SMALL_FORMS = ("blob", "round", "slab", "facets", "star")


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What the scene will be, decided before anything is painted; `colours` are those of the main material.

    `photo` is the file of a photograph that it is cut from, or "".
    """

    kind: str
    colours: Palette
    seed: int
    things: int
    photo: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """The painted scene: the canvas, and the things that stand in it."""

    canvas: Image
    things: tuple[Figure, ...]


def plan_backdrop(rng: np.random.Generator, difficulty: float) -> Backdrop:
    shares = np.array([k[0] for k in KINDS.values()])
    kind = list(KINDS)[rng.choice(len(KINDS), p=shares / shares.sum())]
    names = KINDS[kind][1]
    colours = material(rng, names[rng.integers(len(names))]) if names else any_material(rng)
    busy = rng.random() < 0.2 + 0.4 * difficulty
    things = int(rng.integers(7, 19)) if busy and kind != "plain" else int(rng.integers(0, 6))
    return Backdrop(kind, colours, int(rng.integers(2**31)), things)


def _texture(rng: np.random.Generator, names: tuple[str, ...], colours: Palette, h: int, w: int) -> Image:
    name = names[rng.integers(len(names))]
    return textures.draw(rng, name, h, w, ramp(colours), float(np.exp(rng.uniform(np.log(8), np.log(60)))))


def _blend(under: Image, over: Image, mask: np.ndarray) -> Image:
    soft = cv2.merge([np.clip(mask, 0, 255).astype(np.uint8)] * 3)
    return u8(
        cv2.add(cv2.multiply(over, soft, scale=1 / 255), cv2.multiply(under, cv2.bitwise_not(soft), scale=1 / 255))
    )


def _patchwork(rng: np.random.Generator, base: Image, other: Image) -> Image:
    """The second texture in cloud-shaped patches over the first."""
    h, w = base.shape[:2]
    field = cv2.resize(textures.fractal(rng, -(-h // 2), -(-w // 2), rng.uniform(30, 150), 0.55), (w, h))
    return _blend(base, other, 127 + (field - rng.uniform(-0.5, 1.2)) * rng.uniform(60, 600))


def _strip(rng: np.random.Generator, base: Image, other: Image) -> Image:
    """The second texture as a band across: path, road, river, wall, kerb."""
    h, w = base.shape[:2]
    _, across = textures.axes(h, w, rng.normal(0, 0.5))
    middle, half = rng.uniform(0.1, 0.9) * h, rng.uniform(0.04, 0.25) * h
    return _blend(base, other, 127 + (half - np.abs(across - middle)) * 100)


def _above(rng: np.random.Generator, base: Image, h: int, w: int, indoor: bool) -> Image:
    """Sky, trees or a wall over the upper part, down to a horizon that need not be straight."""
    names = ("wall", "brick", "wood") if indoor else ("sky", "sky", "foliage", "concrete", "snow", "night")
    kinds = (
        ("smooth", "gradient", "bricks", "cloud") if indoor else ("gradient", "cloud", "smooth", "leaves", "windows")
    )
    far = _texture(rng, kinds, material(rng, names[rng.integers(len(names))]), h, w)
    line = rng.uniform(0.15, 0.55) * h
    uneven = 0.0 if indoor else rng.choice([0.0, 0.03, 0.1])
    ridge = line + uneven * h * textures.fractal(rng, 2, w, w / 3, 0.6)[:1] + np.arange(w) * rng.normal(0, 0.03)
    return _blend(base, far, 127 + (ridge - np.arange(h)[:, None]) * 80)


def _thing(rng: np.random.Generator, w: int, h: int, pictures: PictureFolder | None) -> Figure:
    colours = object_palette(rng) if rng.random() < 0.6 else any_material(rng, 3)
    size = float(np.exp(rng.uniform(np.log(0.03), np.log(0.22)))) * h
    form = pick_form(rng, pictures) if size > 0.07 * h else _SMALL_FORMS[rng.integers(len(_SMALL_FORMS))]
    return Figure(
        parts=build_parts(rng, form, colours, 0.0, pictures),
        x=Signal(rng.uniform(0, w)),
        y=Signal(rng.uniform(0.1, 1) * h),
        log_scale=Signal(float(np.log(size / 2))),
        log_aspect=Signal(rng.normal(0, 0.3)),
        angle=Signal(rng.normal(0, 0.3) if rng.random() < 0.7 else rng.uniform(-3, 3)),
        heat=rng.uniform(0.1, 0.45),
        shadow=rng.uniform(0.2, 0.5) if rng.random() < 0.5 else 0.0,
    )


def photo_backdrop(seed: int, backdrop: Backdrop, pictures: PictureFolder) -> Backdrop:
    """The same plan over a photograph, in three worlds of four."""
    rng = stream(seed, "photo")
    photo = pictures.photos[rng.integers(len(pictures.photos))]
    if rng.random() < 0.25:
        return backdrop
    return replace(backdrop, photo=photo, colours=colours_of(rng, read_photo(photo)))


def _photo_canvas(seed: int, photo: str, h: int, w: int) -> Image:
    """A photograph; sometimes two parts of it side by side or in patches."""
    rng = stream(seed, "photo")
    canvas = piece(rng, read_photo(photo), h, w, (0.35, 1.0))
    if rng.random() < 0.3:
        canvas = (_patchwork, _strip)[rng.integers(2)](rng, canvas, piece(rng, read_photo(photo), h, w, (0.1, 0.5)))
    return canvas


def paint_scene(backdrop: Backdrop, width: int, height: int, pictures: PictureFolder | None = None) -> Scene:
    """Paint the scene for frames of width x height pixels."""
    rng = np.random.default_rng(backdrop.seed)
    w, h = int(width * MARGIN), int(height * MARGIN)
    _, names, kinds = KINDS[backdrop.kind]
    photo = bool(backdrop.photo)
    canvas = (
        _photo_canvas(backdrop.seed, backdrop.photo, h, w) if photo else _texture(rng, kinds, backdrop.colours, h, w)
    )
    for _ in range(int(rng.choice([0, 1, 1, 2])) if not photo and backdrop.kind not in ("plain", "water") else 0):
        colours = material(rng, names[rng.integers(len(names))]) if names else any_material(rng)
        join = _patchwork if backdrop.kind in ("ground", "foliage", "mosaic") and rng.random() < 0.7 else _strip
        canvas = join(rng, canvas, _texture(rng, kinds, colours, h, w))
    if backdrop.kind in ("horizon", "indoor", "urban") and rng.random() < 0.8 and not photo:
        canvas = _above(rng, canvas, h, w, backdrop.kind == "indoor")
    if rng.random() < 0.6:
        light = cv2.resize(rng.uniform(0.6, 1.25, (3, 4)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
        canvas = u8(cv2.multiply(canvas, cv2.merge([light] * 3), dtype=cv2.CV_8U))
    things = tuple(_thing(rng, w, h, pictures) for _ in range(backdrop.things))
    for thing in things:
        draw_figure(canvas, thing, [paint_part(p, float(np.exp(thing.log_scale.base))) for p in thing.parts], 0.0)
    return Scene(canvas, things)
