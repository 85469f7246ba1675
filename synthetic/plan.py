"""A world on paper: everything that will happen, decided from the seed before anything is painted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from synthetic.config import ATTRIBUTES, LIFELIKE_CHANCES, WorldConfig
from synthetic.effects import PhotoSettings, camcorder, draw_photo_settings
from synthetic.figure import Camera, Figure, FigurePart, Wave, bounds, inverse
from synthetic.forms import build_parts, pick_form
from synthetic.palette import Palette, any_material, near, object_palette
from synthetic.pictures import PictureFolder, open_pictures
from synthetic.scene import MARGIN, Backdrop, photo_backdrop, plan_backdrop
from synthetic.signals import STILL, Bump, Signal, shake, stream, wander


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """Everything that will happen in one world.

    Attributes:
        seed: Seed of the world.
        config: Its settings.
        camera: Motion of the camera.
        backdrop: What the scene will be.
        target: The object to track.
        behind: Other objects that are further away than the target.
        front: Other objects that are nearer.
        look_alikes: Those among them that look like the target.
        light: Share of daylight over time.
        shutter: Share of a frame's motion that is smeared.
        look: Light, lens, sensor and compression.
        crossover: 1 where the target is as warm as the scene (thermal crossover), 0 where it is not.
    """

    seed: int
    config: WorldConfig
    camera: Camera
    backdrop: Backdrop
    target: Figure
    behind: tuple[Figure, ...]
    front: tuple[Figure, ...]
    look_alikes: tuple[Figure, ...]
    light: Signal
    shutter: float
    look: PhotoSettings
    crossover: Signal


def _draw_events(config: WorldConfig, seed: int) -> frozenset[str]:
    if config.attributes is not None:
        return frozenset(config.attributes)
    rng = stream(seed, "events")
    scale = 0.15 + 1.7 * config.difficulty
    own = LIFELIKE_CHANCES if config.lifelike else {}
    return frozenset(n for n, a in ATTRIBUTES.items() if rng.random() < min(0.9, own.get(n, a.chance) * scale))


def _camera(config: WorldConfig, events: frozenset[str], seed: int) -> Camera:
    rng = stream(seed, "camera")
    w, h = config.width, config.height
    middle = (w * MARGIN / 2, h * MARGIN / 2)
    if "CM" not in events:
        return Camera(
            w, h, Signal(middle[0] + rng.uniform(-0.2, 0.2) * w), Signal(middle[1] + rng.uniform(-0.2, 0.2) * h)
        )
    pace = rng.uniform(0.006, 0.02) * w
    period = rng.uniform(60, 160)
    reach = pace * period / 4
    still = rng.random() < 0.3
    return Camera(
        w, h,
        wander(rng, middle[0], reach, period),
        wander(rng, middle[1], reach * rng.uniform(0.2, 0.8), period * rng.uniform(0.7, 1.3)),
        log_zoom=wander(rng, 0.05, rng.uniform(0, 0.22), rng.uniform(60, 200), 2),
        angle=wander(rng, 0.0, rng.uniform(0, 0.15), rng.uniform(60, 200), 2),
        shake_x=STILL if still else shake(rng, rng.uniform(0.5, 6) * w / 320),
        shake_y=STILL if still else shake(rng, rng.uniform(0.5, 5) * w / 320),
    )  # fmt: skip


def _handheld(camera: Camera, config: WorldConfig, seed: int) -> Camera:
    """The camera in a hand: it often follows the target past the scene, trembles more, and is jerked."""
    rng = stream(seed, "handheld")
    w = config.width
    speed = w * rng.uniform(0, 0.05) * (rng.random() < 0.5)
    way = rng.uniform(0, 2 * np.pi)
    reach, quick = w * rng.uniform(0, 0.025), rng.uniform(0.8, 2.0)
    shakes = []
    for given in (camera.shake_x, camera.shake_y):
        jerks = [
            Bump(rng.uniform(2, config.length), rng.uniform(1.5, 5), rng.uniform(0, 8), w * rng.normal(0, 0.05))
            for _ in range(rng.poisson(config.length / 40))
        ]
        shakes.append(_with_shake(given, shake(rng, reach).slowed(quick)).plus(*jerks))
    return replace(
        camera,
        pan_x=replace(camera.pan_x, drift=speed * float(np.cos(way))),
        pan_y=replace(camera.pan_y, drift=0.4 * speed * float(np.sin(way))),
        shake_x=shakes[0],
        shake_y=shakes[1],
    )


def _target_size(rng: np.random.Generator, config: WorldConfig) -> float:
    """Side in pixels: 8 % to 45 % of the frame's shorter side, smaller ones more often when it is difficult."""
    short = min(config.width, config.height)
    return float(short * np.exp(rng.uniform(np.log(0.13 - 0.05 * config.difficulty), np.log(0.45))))


def _wave(rng: np.random.Generator, bend: float) -> Wave:
    if bend == 0 or rng.random() < 0.4:
        return Wave()

    def side() -> Signal:
        reach = bend * rng.uniform(0.04, 0.2)
        return Signal(0.0, (reach,), (rng.uniform(0.01, 0.06),), (rng.uniform(0, 6.28),))

    return Wave(side(), side(), rng.uniform(1.0, 3.0), rng.uniform(1.0, 3.0))


def _paced(x: Signal, y: Signal, size: np.ndarray, length: int, limit: float) -> tuple[Signal, Signal]:
    """The same path at such a pace that the quickest step is about `limit` target sizes per frame."""
    t = np.arange(max(length, 30), dtype=np.float64)
    step = np.hypot(np.diff(x(t)), np.diff(y(t))) / size[: len(t) - 1]
    factor = float(np.clip(limit / max(float(np.quantile(step, 0.97)), 1e-6), 0.1, 6.0))
    return x.slowed(factor), y.slowed(factor)


def _excursion(rng: np.random.Generator, x: Signal, config: WorldConfig, size: float) -> Signal:
    """The path `x` with a trip over the nearer side of the picture and back, as slow as the sequence allows.

    The first frames are left alone.
    """
    n = config.length
    start = rng.uniform(0.15, 0.3) * n
    rise, hold = 0.25 * n, min(rng.uniform(3, 9), 0.12 * n)
    there = x(np.linspace(start + rise, start + rise + hold, 16))
    right = there.mean() > config.width / 2
    height = config.width + 0.9 * size - there.min() if right else -(there.max() + 0.9 * size)
    return x.plus(Bump(start, max(4.0, min(rise, 1.5 * abs(height) / (0.3 * size))), hold, float(height)))


def _form(config: WorldConfig, seed: int, pictures: PictureFolder | None) -> str:
    """The form of the target and of its look-alikes; people walk in every fifth lifelike world."""
    rng = stream(seed, "form")
    return "person" if config.lifelike and stream(seed, "people").random() < 0.2 else pick_form(rng, pictures)


def _target(
    config: WorldConfig,
    events: frozenset[str],
    seed: int,
    colours: Palette,
    camera: Camera,
    pictures: PictureFolder | None,
) -> Figure:
    rng = stream(seed, "target")
    w, h, n = config.width, config.height, config.length
    size = _target_size(rng, config)
    scale_reach = rng.uniform(0.4, 0.6) if "SV" in events else rng.uniform(0, 0.15)
    log_scale = wander(rng, float(np.log(size / 2)), scale_reach, max(40.0, rng.uniform(0.8, 1.6) * n), 2)
    turning = "ROT" in events
    spin = wander(rng, 0.0, rng.uniform(0.6, 1.6) if turning else rng.uniform(0, 0.12), rng.uniform(40, 90), 2)
    if turning and rng.random() < 0.3:
        spin = Signal(rng.uniform(-0.3, 0.3), drift=rng.choice([-1, 1]) * rng.uniform(0.02, 0.08))
    aspect = wander(rng, rng.normal(0, 0.2), 0.6 if "ARC" in events else rng.uniform(0, 0.08), rng.uniform(40, 80), 2)
    if config.lifelike and (tall := stream(seed, "tall")).random() < 0.35:
        aspect = replace(aspect, base=-tall.uniform(0.2, 0.9))
    bend = rng.uniform(0.4, 1.0) if "DEF" in events else 0.0
    margin = 0.55 * size * np.exp(scale_reach * 0.5)
    period = rng.uniform(50, 120)
    lively = rng.uniform(0.7, 1.0)
    x = wander(rng, w / 2, max(6.0, (w / 2 - margin) * lively), period)
    y = wander(rng, h / 2, max(6.0, (h / 2 - margin) * lively), period * rng.uniform(0.6, 1.4))
    limit = (
        rng.uniform(0.6, 0.85) if "FM" in events else rng.uniform(0.1, 0.22) + 0.12 * config.difficulty * rng.random()
    )
    sizes = 2 * np.exp(log_scale(np.arange(max(n, 30), dtype=np.float64)))
    x, y = _paced(x, y, sizes, n, limit)
    if "OV" in events:
        x = _excursion(rng, x, config, size * float(np.exp(scale_reach)))
    x, y = _with_shake(x, camera.shake_x), _with_shake(y, camera.shake_y)
    form = _form(config, seed, pictures)
    return Figure(
        build_parts(stream(seed, "parts"), form, colours, bend, pictures),
        x, y, log_scale, aspect, spin, _wave(rng, bend),
        heat=rng.uniform(0.65, 1.0), shadow=_shadow(rng), softness=rng.uniform(0.3, 1.0),
        opacity=rng.uniform(0.8, 0.95) if rng.random() < 0.1 else 1.0, kind=form,
    )  # fmt: skip


def _shadow(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.2, 0.6)) if rng.random() < 0.45 else 0.0


def _with_shake(x: Signal, tremble: Signal) -> Signal:
    return replace(
        x,
        amplitude=x.amplitude + tremble.amplitude,
        frequency=x.frequency + tremble.frequency,
        phase=x.phase + tremble.phase,
        bumps=x.bumps + tremble.bumps,
    )


def _other(
    rng: np.random.Generator,
    config: WorldConfig,
    kind: str,
    parts: tuple[FigurePart, ...],
    log_size: float,
    bend: float,
) -> Figure:
    w, h = config.width, config.height
    log_scale = wander(rng, log_size, rng.uniform(0, 0.2), rng.uniform(60, 160), 2)
    x = wander(rng, rng.uniform(0.1, 0.9) * w, rng.uniform(0.1, 0.6) * w, rng.uniform(60, 140))
    y = wander(rng, rng.uniform(0.15, 0.9) * h, rng.uniform(0.05, 0.5) * h, rng.uniform(60, 140))
    sizes = 2 * np.exp(log_scale(np.arange(max(config.length, 30), dtype=np.float64)))
    x, y = _paced(x, y, sizes, config.length, rng.uniform(0.03, 0.25))
    return Figure(
        parts=parts,
        x=x,
        y=y,
        log_scale=log_scale,
        log_aspect=Signal(rng.normal(0, 0.15)),
        angle=wander(rng, rng.normal(0, 0.2), rng.uniform(0, 0.4), 70, 2),
        wave=_wave(rng, bend),
        depth=rng.uniform(1.15, 1.6),
        heat=rng.uniform(0.2, 0.9),
        shadow=_shadow(rng),
        softness=rng.uniform(0.3, 1.0),
        kind=kind,
    )


def _distractors(
    config: WorldConfig,
    events: frozenset[str],
    seed: int,
    colours: Palette,
    target: Figure,
    pictures: PictureFolder | None,
) -> tuple[list[Figure], list[Figure]]:
    """Others, and the look-alikes: the target's own form in nearly its colours, on paths of their own."""
    rng = stream(seed, "distractors")
    count = config.distractors
    if count is None:
        count = int(rng.integers(0, 2 + round(4 * config.difficulty))) + ("SIM" in events)
    alike = 0 if "SIM" not in events else int(rng.integers(1, max(1, count) + 1))
    bend = 0.5 if "DEF" in events else 0.0
    look_alikes, others = [], []
    for k in range(count):
        if k < alike:
            seen = near(rng, colours, rng.uniform(4, 30))
            parts = build_parts(stream(seed, "parts"), target.kind, seen, bend, pictures)
            look_alike = _other(rng, config, target.kind, parts, target.log_scale.base + rng.normal(0, 0.15), bend)
            near_target = _alongside(rng, target, config.lifelike) if k == 0 else look_alike
            look_alikes.append(replace(look_alike, x=near_target.x, y=near_target.y))
        else:
            size = target.log_scale.base + rng.uniform(-0.7, 0.6)
            form = pick_form(rng, pictures)
            parts = build_parts(rng, form, object_palette(rng), bend, pictures)
            others.append(_other(rng, config, form, parts, size, bend))
    return others, look_alikes


def _alongside(rng: np.random.Generator, target: Figure, crossing: bool) -> Figure:
    """The target's path, shifted by one to two and a half sizes, with waves of its own on top.

    Those of a `crossing` one are so large that the two paths meet.
    """
    size = 2 * np.exp(target.log_scale.base)
    away, side = size * rng.uniform(1.0, 2.2), rng.uniform(0, 2 * np.pi)
    own = [
        wander(rng, away * f, size * rng.uniform(0.3, 1.0) * (3.0 if crossing else 1.0), rng.uniform(30, 80), 2)
        for f in (np.cos(side), np.sin(side))
    ]
    x, y = ((_with_shake(p, o), o.base) for p, o in zip((target.x, target.y), own, strict=True))
    return replace(target, x=replace(x[0], base=x[0].base + x[1]), y=replace(y[0], base=y[0].base + y[1]))


def _occluder(
    rng: np.random.Generator,
    config: WorldConfig,
    camera: Camera,
    target: Figure,
    full: bool,
    pictures: PictureFolder | None,
) -> Figure:
    """Something in front that the target meets at one moment: it passes by, or stands in the scene."""
    n = config.length
    when = float(rng.uniform(0.35, 0.8) * n)
    size = 2 * np.exp(target.log_scale(when))
    x, y = target.x(when), target.y(when)
    cover = rng.uniform(1.5, 2.0) if full else rng.uniform(0.5, 0.9)
    colours = object_palette(rng) if rng.random() < 0.5 else any_material(rng, 3)
    passing = rng.random() < 0.5
    form = "slab" if full or not passing else pick_form(rng, pictures)
    if not passing and not full and rng.random() < 0.4:
        form = "bush"
    look = Figure(
        build_parts(rng, form, colours, 0.2 if passing else 0.0, pictures), STILL, STILL, STILL,
        depth=rng.uniform(0.5, 0.8), heat=rng.uniform(0.1, 0.4), softness=rng.uniform(0.3, 1.2), kind=form,
    )  # fmt: skip
    if passing:
        way = rng.uniform(-0.5, 0.5) + rng.choice([0, np.pi])
        pace = max(0.12 * size, 1.2 * (1 + cover) * size / max(when, 1.0)) * rng.uniform(1.0, 1.4)
        vx, vy = pace * np.cos(way), pace * np.sin(way)
        return replace(
            look,
            x=Signal(x - vx * when, drift=vx),
            y=Signal(y - vy * when, drift=vy),
            log_scale=Signal(float(np.log(cover * (1.5 if full else 1.0) * size / 2))),
            log_aspect=Signal(rng.uniform(-0.6, -0.2) if full else 0.0),
        )
    spot = inverse(camera.matrices(when)) @ (x, y, 1.0)
    zoom = float(np.exp(camera.log_zoom(when)))
    tall = float(np.log(rng.uniform(2.5, 6.0))) if form == "slab" else 0.0
    return replace(
        look,
        x=Signal(float(spot[0])),
        y=Signal(float(spot[1])),
        log_scale=Signal(float(np.log(cover * size / zoom / 2)) + tall / 2),
        log_aspect=Signal(-tall),
        angle=Signal(rng.normal(0, 0.08)),
        camera=camera,
    )


def _clear_at_start(figure: Figure, target: Figure) -> bool:
    """Whether the target's first two frames are free of `figure`."""
    for t in (0.0, 1.0):
        a, b = bounds(figure.outlines(t)), bounds(target.outlines(t))
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]:
            return False
    return True


def _light(config: WorldConfig, events: frozenset[str], seed: int) -> Signal:
    rng = stream(seed, "light")
    base = rng.uniform(0.14, 0.3) if "LL" in events else rng.uniform(0.8, 1.1)
    if "IV" not in events:
        return Signal(base)
    if rng.random() < 0.5:
        start = rng.uniform(0.1, 0.6) * config.length
        height = base * (rng.uniform(0.6, 0.9) if rng.random() < 0.4 else -rng.uniform(0.45, 0.65))
        return Signal(base, bumps=(Bump(start, rng.uniform(2, 8), rng.uniform(0.1, 0.5) * config.length, height),))
    return wander(rng, base, base * rng.uniform(0.45, 0.6), rng.uniform(30, 80), 2)


def draw_plan(seed: int, config: WorldConfig) -> WorldPlan:
    """Decide the whole world of `seed`."""
    rng = stream(seed, "plan")
    events = _draw_events(config, seed)
    pictures = open_pictures(config.pictures) if config.pictures else None
    camera = _camera(config, events, seed)
    camera = _handheld(camera, config, seed) if config.lifelike else camera
    backdrop = plan_backdrop(stream(seed, "backdrop"), config.difficulty)
    backdrop = photo_backdrop(seed, backdrop, pictures) if pictures else backdrop
    palette = stream(seed, "colours")
    colours = (
        near(palette, backdrop.colours[palette.permutation(4)[:3]], 14.0) if "BC" in events else object_palette(palette)
    )
    target = _target(config, events, seed, colours, camera, pictures)
    others, look_alikes = _distractors(config, events, seed, colours, target, pictures)
    front = []
    for full, name in ((False, "POC"), (True, "FOC")):
        tries = (_occluder(rng, config, camera, target, full, pictures) for _ in range(8 if name in events else 0))
        front += [f for f in tries if _clear_at_start(f, target)][:1]
    nearer = [f for f in others if rng.random() < 0.25 and _clear_at_start(f, target)]
    behind = sorted([f for f in others if not any(f is g for g in nearer)] + look_alikes, key=lambda f: -f.depth)
    front += [replace(f, depth=rng.uniform(0.6, 0.9)) for f in nearer]
    look = draw_photo_settings(stream(seed, "look"), config.difficulty, "LL" in events)
    start = rng.uniform(0.3, 0.7) * config.length
    warm = rng.random() < 0.35 or "TC" in events
    shutter = rng.uniform(0.7, 1.0) if "MB" in events else rng.uniform(0.0, 0.6 if config.lifelike else 0.3)
    return WorldPlan(
        seed=seed,
        config=config,
        camera=camera,
        backdrop=backdrop,
        target=target,
        behind=tuple(behind),
        front=tuple(sorted(front, key=lambda f: -f.depth)),
        look_alikes=tuple(look_alikes),
        light=_light(config, events, seed),
        shutter=shutter,
        look=camcorder(stream(seed, "camcorder"), look) if config.lifelike else look,
        crossover=Signal(bumps=(Bump(start, 6.0, rng.uniform(5, 20), 1.0),)) if warm else STILL,
    )
