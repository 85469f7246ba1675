"""Kinds of objects: their parts and the motion of these. Every form is about two units across."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from synthetic import shapes
from synthetic.figure import FigurePart, Skin
from synthetic.palette import Palette
from synthetic.pictures import CUTOUT, PictureFolder
from synthetic.shapes import Contours
from synthetic.signals import STILL, Signal, wander

Form = Callable[[np.random.Generator, Palette, float], list[FigurePart]]

_SKINS = ("cloud", "streaks", "gravel", "gradient", "stripes", "checks", "cells", "bricks", "blobs", "blades", "leaves",
          "script", "windows", "smooth")  # fmt: skip
_SKIN_SHARE = np.array([4, 2, 2, 4, 2, 1.5, 1.5, 0.7, 1.5, 1, 1, 1, 1, 6])


def skin(rng: np.random.Generator, colours: Palette, texture: str = "", plain: float = 0.35) -> Skin:
    """A texture around the first of the object's colours; `plain` is the chance of hardly any texture."""
    name = texture or (
        "smooth" if rng.random() < plain else _SKINS[rng.choice(len(_SKINS), p=_SKIN_SHARE / _SKIN_SHARE.sum())]
    )
    contrast = rng.uniform(0.1, 1.0)
    first, second = colours[0].astype(float), colours[1 % len(colours)].astype(float)
    ends = np.stack([first + contrast * (second - first), first, first + rng.uniform(-50, 50)])
    return Skin(
        texture=name,
        colours=np.clip(ends[rng.permutation(3)], 0, 255).astype(np.uint8),
        seed=int(rng.integers(2**31)),
        scale=rng.uniform(0.15, 0.7),
        shade=rng.uniform(0.0, 0.9),
        folds=rng.uniform(0.1, 0.5) if rng.random() < 0.35 else 0.0,
        mark=str(rng.choice(["", "", "", "band", "patch", "text", "dots", "rim"])),
    )


def _sway(
    rng: np.random.Generator, reach: float, pace: float = 1.0, phase: float | None = None, base: float = 0.0
) -> Signal:
    at = rng.uniform(0, 2 * np.pi) if phase is None else phase
    return Signal(base, (reach,), (pace * rng.uniform(0.02, 0.07),), (at,))


def _single(rng: np.random.Generator, colours: Palette, contours: Contours) -> list[FigurePart]:
    return [FigurePart(contours, skin(rng, colours))]


def soft_blob(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    first = shapes.blob(rng, int(rng.integers(2, 7)), rng.uniform(0.1, 0.5), rng.choice([0.0, 0.0, 0.06]))
    other = shapes.blob(rng, int(rng.integers(2, 6)), rng.uniform(0.1, 0.5))
    morph = wander(rng, 0.5, min(0.5, bend), rng.uniform(25, 80), 2) if bend > 0 else STILL
    return [FigurePart(first, skin(rng, colours), other=other if bend > 0 else None, morph=morph)]


def round_thing(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    return _single(rng, colours, shapes.ellipse(1.0, rng.uniform(0.55, 1.0), rng.choice([2.0, 2.0, 2.5])))


def slab(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    body = FigurePart(shapes.ellipse(1.0, rng.uniform(0.35, 1.0), rng.uniform(4, 12)), skin(rng, colours))
    if rng.random() < 0.5:
        return [body]
    label = shapes.ellipse(rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.3), rng.uniform(2, 8))
    return [body, FigurePart(label, skin(rng, colours[::-1]), joint=(rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.1)))]


def facets(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    return _single(rng, colours, shapes.polygon(rng, int(rng.integers(3, 8))))


def starry(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    return _single(rng, colours, shapes.star(int(rng.integers(4, 8)), rng.uniform(0.35, 0.7)))


def hoop(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    return _single(rng, colours, shapes.ring(rng))


def sign(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    return _single(rng, colours, shapes.letter(rng))


def bag(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """Thin cloth or plastic that bulges and has loose ends."""
    look = replace(skin(rng, colours, "smooth"), folds=rng.uniform(0.2, 0.6), shade=rng.uniform(0.3, 0.8))
    first, other = (shapes.blob(rng, 5, rng.uniform(0.2, 0.6)) * np.float32(0.85) for _ in range(2))
    parts = []
    for _ in range(int(rng.integers(1, 4))):
        a = rng.uniform(0, 2 * np.pi)
        ear = shapes.moved(shapes.polygon(rng, 4), turn=a, sx=0.3, sy=0.25)
        ear_joint = (0.72 * np.cos(a), 0.72 * np.sin(a))
        parts.append(FigurePart(ear, replace(look, seed=look.seed + 1), joint=ear_joint, swing=_sway(rng, 0.5 + bend)))
    morph = wander(rng, 0.5, 0.5 * min(1.0, 0.4 + bend), rng.uniform(20, 60), 2)
    return [*parts, FigurePart(first, look, other=other, morph=morph)]


def person(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """Head, torso, arms and legs in stride; colours: torso, legs, hair or head."""
    pace, at = rng.uniform(0.6, 1.6), rng.uniform(0, 2 * np.pi)
    stride = rng.uniform(0.15, 0.6)
    coat, trousers = skin(rng, colours), skin(rng, colours[1:])
    from_tone = np.array([[205, 160, 130], [240, 200, 170], [120, 80, 60], [70, 45, 35]])[rng.integers(4)]
    flesh = Skin(
        "smooth", np.clip(from_tone + rng.integers(-20, 20, (3, 3)), 0, 255).astype(np.uint8), int(rng.integers(2**31))
    )
    wide = rng.uniform(0.28, 0.42)
    leg = shapes.limb(0.95, 0.24)
    arm = shapes.limb(0.7, 0.16)
    step = [replace(_sway(rng, stride), frequency=(pace * 0.035,), phase=(at + k * np.pi,)) for k in range(2)]
    head = shapes.ellipse(0.17, 0.21)
    hair = shapes.moved(shapes.ellipse(0.19, 0.14), y=-0.1)
    return [
        FigurePart(arm, coat, (-wide * 0.8, -0.5), step[1]),
        FigurePart(leg, trousers, (-0.12, 0.1), step[0]),
        FigurePart(leg, trousers, (0.12, 0.1), step[1]),
        FigurePart(shapes.moved(shapes.ellipse(wide, 0.42, 3.5), y=-0.22), coat),
        FigurePart(head, flesh, (0.0, -0.8), _sway(rng, 0.15)),
        FigurePart(hair, skin(rng, colours[2:], plain=0.8), (0.0, -0.82), _sway(rng, 0.1)),
        FigurePart(arm, coat, (wide * 0.8, -0.5), step[0]),
    ]


def animal(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """A body on four legs with head and tail."""
    coat = skin(rng, colours)
    leg = shapes.limb(rng.uniform(0.45, 0.75), rng.uniform(0.13, 0.22))
    at = rng.uniform(0, 2 * np.pi)
    phases = at + np.array([0, np.pi, np.pi * 0.7, np.pi * 1.7])
    beat, reach = rng.uniform(0.03, 0.09), rng.uniform(0.2, 0.6)
    legs = [
        FigurePart(leg, coat, (x, 0.1), Signal(0.0, (reach,), (beat,), (float(p),)))
        for x, p in zip((-0.55, -0.4, 0.35, 0.5), phases, strict=True)
    ]
    body = FigurePart(shapes.ellipse(rng.uniform(0.65, 0.8), rng.uniform(0.25, 0.38), 2.6), coat)
    neck = FigurePart(shapes.limb(0.5, 0.24), coat, (0.55, -0.1), _sway(rng, 0.25, base=np.pi * 1.2))
    head = FigurePart(shapes.blob(rng, 3, 0.25) * np.float32(0.27), coat, (0.82, -0.42), _sway(rng, 0.2))
    tail = FigurePart(shapes.limb(0.6, 0.12, 0.4), coat, (-0.68, -0.1), _sway(rng, 0.5, 2.0, base=1.1))
    return [tail, *legs, body, neck, head]


def vehicle(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    paintwork = replace(skin(rng, colours, plain=0.8), shade=rng.uniform(0.3, 0.9))
    dark = Skin("smooth", np.array([[20, 20, 22], [40, 40, 45], [70, 75, 80]], np.uint8), int(rng.integers(2**31)))
    glass = Skin(
        "gradient", np.array([[40, 50, 60], [110, 130, 145], [190, 205, 215]], np.uint8), int(rng.integers(2**31))
    )
    tall = rng.uniform(0.22, 0.4)
    cabin_x = rng.uniform(-0.3, 0.2)
    cabin = shapes.moved(shapes.ellipse(rng.uniform(0.4, 0.65), 0.3, 4.0), y=-tall * 0.9)
    wheel = shapes.ellipse(0.2, 0.2)
    parts = [
        FigurePart(cabin, paintwork, (cabin_x, 0.0)),
        FigurePart(shapes.moved(cabin, sx=0.8, sy=0.62, y=-tall * 0.3), glass, (cabin_x, 0.0)),
        FigurePart(shapes.ellipse(1.0, tall, 5.0), paintwork),
    ]
    parts += [FigurePart(wheel, dark, (x, tall), Signal(drift=0.2)) for x in (-0.6, 0.6)]
    lamp = Skin("smooth", np.array([[255, 240, 190]] * 3, np.uint8), 1)
    return [*parts, FigurePart(shapes.ellipse(0.08, 0.06), lamp, (0.88, -0.03))]


def hand(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """A palm and five fingers (also: crabs, leaves, gloves)."""
    look = skin(rng, colours, plain=0.7)
    fingers = [
        FigurePart(shapes.limb(rng.uniform(0.6, 0.9), 0.24), look, (0.3 * np.sin(a), -0.3 * np.cos(a)),
             _sway(rng, 0.1 + 0.3 * bend, base=a + np.pi))
        for a in np.linspace(-0.9, 0.9, 4)
    ]  # fmt: skip
    thumb = FigurePart(shapes.limb(0.6, 0.26), look, (0.35, 0.15), _sway(rng, 0.2 + 0.3 * bend, base=-1.9))
    wrist = FigurePart(shapes.limb(0.8, 0.5, 0.9), look, (0.0, 0.2))
    return [wrist, *fingers, thumb, FigurePart(shapes.ellipse(0.45, 0.45, 2.6), look)]


def bird(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """Two flapping wings on a small body (also: butterflies, drones, aeroplanes when stiff)."""
    look, accent = skin(rng, colours), skin(rng, colours[1:])
    wing = shapes.moved(shapes.polygon(rng, 5), x=0.5, sx=0.5, sy=rng.uniform(0.2, 0.5))
    left = wing * np.array([-1, 1], np.float32)
    beat, reach = rng.uniform(0.03, 0.12), rng.uniform(0.0, 0.6) + 0.2 * bend
    body = shapes.ellipse(rng.uniform(0.12, 0.25), rng.uniform(0.4, 0.6))
    return [
        FigurePart(wing, look, swing=Signal(0.0, (reach,), (beat,), (0.0,))),
        FigurePart(left, look, swing=Signal(0.0, (-reach,), (beat,), (0.0,))),
        FigurePart(body, accent),
        FigurePart(shapes.ellipse(0.14, 0.14), skin(rng, colours[2:]), (0.0, -0.5)),
    ]


def chain(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """Segments in a row: caterpillar, fish, train, toy."""
    count = int(rng.integers(3, 7))
    look = [skin(rng, colours), skin(rng, colours[1:])]
    xs = np.linspace(-0.85, 0.85, count)
    radius = np.linspace(rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.5), count)
    squareness = rng.uniform(2, 5)
    alternate = rng.random() < 0.5
    return [
        FigurePart(
            shapes.ellipse(1.1 / count + 0.1, r, squareness),
            look[k % 2 if alternate else 0],
            (float(x), 0.0),
            _sway(rng, 0.2 * bend),
        )
        for k, (x, r) in enumerate(zip(xs, radius, strict=True))
    ]


def bottle(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    glass = skin(rng, colours)
    wide = rng.uniform(0.3, 0.55)
    body = shapes.moved(shapes.ellipse(wide, 0.65, 5.0), y=0.3)
    neck = shapes.moved(shapes.ellipse(wide * rng.uniform(0.3, 0.6), 0.4, 4.0), y=-0.5)
    label = shapes.moved(shapes.ellipse(wide * 0.98, 0.25, 8.0), y=0.35)
    cap = shapes.moved(shapes.ellipse(wide * 0.5, 0.12, 6.0), y=-0.85)
    return [
        FigurePart(neck, glass),
        FigurePart(body, glass),
        FigurePart(label, skin(rng, colours[1:])),
        FigurePart(cap, skin(rng, colours[2:])),
    ]


def face(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """A head seen close: hair, face, eyes, mouth; also toys and masks."""
    tone = colours if rng.random() < 0.4 else np.clip(
        np.array([[210, 165, 135], [180, 130, 100], [240, 205, 180]]) * rng.uniform(0.35, 1.05), 0, 255
    ).astype(np.uint8)  # fmt: skip
    flesh = replace(skin(rng, tone, "smooth"), mark="")
    eye = shapes.ellipse(0.12, 0.07)
    dark = Skin("smooth", np.full((3, 3), 30, np.uint8), 1)
    red = Skin("smooth", np.array([[150, 70, 70]] * 3, np.uint8), 1)
    blink = rng.uniform(0.2, 0.32)
    return [
        FigurePart(
            shapes.moved(shapes.blob(rng, 4, 0.15, 0.04), y=-0.2, sx=0.82, sy=0.82), skin(rng, colours[2:], plain=0.2)
        ),
        FigurePart(shapes.moved(shapes.ellipse(0.66, 0.85, 2.3), y=0.12), flesh),
        FigurePart(eye, dark, (-blink, -0.02)),
        FigurePart(eye, dark, (blink, -0.02)),
        FigurePart(shapes.ellipse(0.25, 0.07), red, (0.0, 0.55), _sway(rng, 0.1)),
        FigurePart(shapes.ellipse(0.08, 0.15), replace(flesh, shade=0.9), (0.0, 0.22)),
    ]


def bush(rng: np.random.Generator, colours: Palette, bend: float) -> list[FigurePart]:
    """A ragged heap: plants, plush, piles, dishes of food."""
    parts = []
    for _ in range(int(rng.integers(3, 7))):
        lump = shapes.blob(rng, 6, 0.3, rng.uniform(0, 0.12)) * np.float32(rng.uniform(0.3, 0.6))
        at = (rng.uniform(-0.55, 0.55), rng.uniform(-0.5, 0.5))
        parts.append(FigurePart(lump, skin(rng, colours), at, _sway(rng, 0.1 + 0.2 * bend)))
    return parts


FORMS: dict[str, Form] = {
    "blob": soft_blob,
    "round": round_thing,
    "slab": slab,
    "facets": facets,
    "star": starry,
    "hoop": hoop,
    "sign": sign,
    "bag": bag,
    "person": person,
    "animal": animal,
    "vehicle": vehicle,
    "hand": hand,
    "bird": bird,
    "chain": chain,
    "bottle": bottle,
    "face": face,
    "bush": bush,
}
_SHARE = {"blob": 2.5, "person": 2.5, "bag": 1.5, "vehicle": 1.5, "animal": 1.5, "hoop": 0.5, "sign": 0.5, "star": 0.5}


def pick_form(rng: np.random.Generator, pictures: PictureFolder | None = None) -> str:
    if pictures is not None and rng.random() < 0.45:
        return CUTOUT
    share = np.array([_SHARE.get(name, 1.0) for name in FORMS])
    return list(FORMS)[rng.choice(len(FORMS), p=share / share.sum())]


def build_parts(
    rng: np.random.Generator, form: str, colours: Palette, bend: float, pictures: PictureFolder | None = None
) -> tuple[FigurePart, ...]:
    """The parts of one object of the given form; `bend` (0..1) is the strength of its deformation."""
    if pictures is None:
        return tuple(FORMS[form](rng, colours, bend))
    if form == CUTOUT:
        return pictures.cutout(rng, skin(rng, colours))
    return pictures.dress(rng, tuple(FORMS[form](rng, colours, bend)))
