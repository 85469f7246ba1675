"""Drawing objects into pictures: painted skins, soft silhouettes, shadows, motion blur."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.data import Image
from synthetic import textures
from synthetic.arrays import u8
from synthetic.figure import Figure, FigurePart, Skin, inverse
from synthetic.palette import ramp
from synthetic.pictures import paint_skin

Grey = NDArray[np.uint8]
SHIFT = 4
_PAD = 0.06


def grey(picture: Image) -> Grey:
    """[H, W] brightness of an RGB picture."""
    return u8(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


@dataclass(frozen=True, slots=True)
class PaintedPart:
    """The painted surface of a part: picture, and the map from part units to its pixels (scale, then shift)."""

    picture: Image
    scale: tuple[float, float]
    shift: tuple[float, float]


def fill(mask: Grey, outline: NDArray[np.float64], x0: float, y0: float, value: int = 255) -> None:
    """Fill one outline [C, 64, 2] (even-odd) into `mask`, whose pixel (0, 0) is the image pixel (x0, y0)."""
    points = np.round((outline - (x0, y0)) * (1 << SHIFT)).astype(np.int32)
    cv2.fillPoly(mask, list(points), value, cv2.LINE_AA, SHIFT)


def _mark(rng: np.random.Generator, picture: Image, skin: Skin) -> None:
    h, w = picture.shape[:2]
    colour = skin.colours[int(rng.integers(3))].astype(int)
    colour = np.clip(colour + rng.integers(-90, 90, 3), 0, 255).tolist()
    if skin.mark == "band":
        y, thick = int(rng.uniform(0.2, 0.8) * h), max(1, int(rng.uniform(0.05, 0.2) * h))
        cv2.line(picture, (0, y), (w, int(y + rng.uniform(-0.2, 0.2) * h)), colour, thick, cv2.LINE_AA)
    elif skin.mark == "patch":
        at = (int(rng.uniform(0.2, 0.8) * w), int(rng.uniform(0.2, 0.8) * h))
        axes = (max(1, int(rng.uniform(0.1, 0.35) * w)), max(1, int(rng.uniform(0.1, 0.35) * h)))
        cv2.ellipse(picture, at, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    elif skin.mark == "text":
        label = "".join(rng.choice(list("ACDEGHKMNRSTUX0123789"), int(rng.integers(1, 4))))
        at = (int(0.2 * w), int(rng.uniform(0.45, 0.75) * h))
        cv2.putText(picture, label, at, int(rng.integers(0, 4)), max(0.3, w / 70), colour, max(1, w // 30), cv2.LINE_AA)
    elif skin.mark == "dots":
        for x, y in rng.uniform(0.15, 0.85, (int(rng.integers(2, 7)), 2)) * (w, h):
            cv2.circle(picture, (int(x), int(y)), max(1, int(rng.uniform(0.03, 0.1) * w)), colour, -1, cv2.LINE_AA)
    elif skin.mark == "rim":
        cv2.rectangle(picture, (0, 0), (w - 1, h - 1), colour, max(2, int(0.2 * min(h, w))))


def _light(rng: np.random.Generator, mask: Grey, skin: Skin) -> NDArray[np.float32]:
    """Brightness factors of a surface that bulges towards its middle, lit from above on one side."""
    h, w = mask.shape
    height = cv2.GaussianBlur(mask.astype(np.float32) / 255.0, (0, 0), 0.16 * min(h, w) + 0.5)
    towards = rng.uniform(-np.pi, 0)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * np.cos(towards) + cv2.Sobel(height, cv2.CV_32F, 0, 1) * np.sin(
        towards
    )
    steep = max(float(np.abs(slope).max()), 1e-6)
    light = 1.0 - skin.shade * 0.45 * slope / steep - skin.shade * 0.35 * (1.0 - height)
    if skin.folds:
        light = light + skin.folds * 0.18 * textures.fractal(rng, h, w, 0.5 * max(h, w), 0.6)
    return np.asarray(light, dtype=np.float32)


def paint_part(part: FigurePart, pixels_per_unit: float) -> PaintedPart:
    """Paint the skin of `part` finely enough for the largest size at which it will be seen."""
    x0, y0, x1, y1 = part.extent()
    pad = _PAD * max(x1 - x0, y1 - y0)
    x0, y0, x1, y1 = x0 - pad, y0 - pad, x1 + pad, y1 + pad
    w = int(np.clip(pixels_per_unit * (x1 - x0), 6, 200))
    h = int(np.clip(pixels_per_unit * (y1 - y0), 6, 200))
    rng = np.random.default_rng(part.skin.seed)
    grain = max(3.0, part.skin.scale * max(w, h))
    if part.skin.picture:
        picture = paint_skin(rng, part.skin, h, w, _PAD)
    else:
        picture = textures.draw(rng, part.skin.texture, h, w, ramp(part.skin.colours), grain)
    if part.skin.mark:
        _mark(rng, picture, part.skin)
    scale = (w / (x1 - x0), h / (y1 - y0))
    mask = np.zeros((h, w), np.uint8)
    fill(mask, ((part.contours - (x0, y0)) * scale).astype(np.float64), 0, 0)
    if part.skin.shade or part.skin.folds:
        light = cv2.merge([_light(rng, mask, part.skin)] * 3)
        picture = u8(cv2.multiply(picture, light, dtype=cv2.CV_8U))
    return PaintedPart(picture, scale, (-x0 * scale[0], -y0 * scale[1]))


def window(
    points: list[NDArray[np.float64]], margin: float, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of the pixels that the outlines touch, or None when they are out of the picture."""
    flat = (points[0] if len(points) == 1 else np.concatenate(points)).reshape(-1, 2)
    (low_x, low_y), (high_x, high_y) = flat.min(0).tolist(), flat.max(0).tolist()
    x0, y0 = max(0, math.floor(low_x - margin)), max(0, math.floor(low_y - margin))
    x1, y1 = min(width, math.ceil(high_x + margin) + 1), min(height, math.ceil(high_y + margin) + 1)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def surface(
    figure: Figure,
    part: FigurePart,
    sheet: PaintedPart,
    t: float,
    back: NDArray[np.float64],
    view: tuple[int, int, int, int],
) -> Image:
    """The skin of `part` at time t in the pixels of `view`; back: [2, 3] image pixels -> units of the object."""
    x0, y0, x1, y1 = view
    back = back.copy()
    back[:, 2] += back[:, 0] * x0 + back[:, 1] * y0
    angle = part.swing(t)
    c, s = math.cos(angle), math.sin(angle)
    (kx, ky), (jx, jy) = sheet.scale, part.joint
    unswing = np.array([[c * kx, s * kx], [-s * ky, c * ky]])
    shift = np.array([sheet.shift[0] - kx * (c * jx + s * jy), sheet.shift[1] - ky * (c * jy - s * jx)])
    if figure.wave.still:
        m = unswing @ back
        m[:, 2] += shift
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return u8(cv2.warpAffine(sheet.picture, m, (x1 - x0, y1 - y0), flags=flags, borderMode=cv2.BORDER_REPLICATE))
    gx, gy = np.arange(x1 - x0, dtype=np.float32)[None], np.arange(y1 - y0, dtype=np.float32)[:, None]
    b = back.astype(np.float32)
    u, v = figure.wave.straighten(b[0, 0] * gx + b[0, 1] * gy + b[0, 2], b[1, 0] * gx + b[1, 1] * gy + b[1, 2], t)
    m32, d = unswing.astype(np.float32), shift.astype(np.float32)
    mx, my = m32[0, 0] * u + m32[0, 1] * v + d[0], m32[1, 0] * u + m32[1, 1] * v + d[1]
    return u8(cv2.remap(sheet.picture, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def streak(dx: float, dy: float) -> NDArray[np.float32] | None:
    """The kernel of a straight motion blur of (dx, dy) pixels; None below 1.5 pixels."""
    length = float(np.hypot(dx, dy))
    if length < 1.5:
        return None
    r = int(np.ceil(length / 2)) + 1
    line = np.zeros((2 * r + 1, 2 * r + 1), np.uint8)
    ends = [(round((r + k * dx / 2) * 16), round((r + k * dy / 2) * 16)) for k in (-1, 1)]
    cv2.line(line, ends[0], ends[1], 255, 1, cv2.LINE_AA, SHIFT)
    kernel = line.astype(np.float32)
    return kernel / kernel.sum()


def mix(under: Image, over: Image, alpha: Grey) -> Image:
    """``over alpha + under (1 - alpha)`` for H x W or H x W x 3 pictures."""
    if under.ndim == 3:
        alpha = u8(cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB))
    front = cv2.multiply(over, alpha, scale=1 / 255)
    return u8(cv2.add(front, cv2.multiply(under, cv2.bitwise_not(alpha), scale=1 / 255)))


def cast_shadow(frame: Image, outlines: list[NDArray[np.float64]], strength: float) -> None:
    """Darken the ground next to an object: its silhouette laid down and softened. In place."""
    foot = max(float(o[..., 1].max()) for o in outlines)
    top = min(float(o[..., 1].min()) for o in outlines)
    tall = foot - top
    laid = [
        np.stack([o[..., 0] + 0.5 * (foot - o[..., 1]), foot + 0.32 * (o[..., 1] - foot) + 0.06 * tall], -1)
        for o in outlines
    ]
    soft = 0.04 * tall + 1.0
    view = window(laid, 3 * soft, frame.shape[1], frame.shape[0])
    if view is None:
        return
    x0, y0, x1, y1 = view
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for o in laid:
        fill(mask, o, x0, y0, int(255 * strength))
    mask = u8(cv2.cvtColor(cv2.blur(mask, (2 * int(soft) + 1,) * 2), cv2.COLOR_GRAY2RGB))
    part = frame[y0:y1, x0:x1]
    frame[y0:y1, x0:x1] = cv2.multiply(part, cv2.bitwise_not(mask), scale=1 / 255)


def draw_figure(
    frame: Image, figure: Figure, sheets: list[PaintedPart], t: float, blur: NDArray[np.float32] | None = None
) -> None:
    """Draw one object into an RGB frame, part by part. In place."""
    height, width = frame.shape[:2]
    outlines = figure.outlines(t)
    margin = 2.0 + 2 * figure.softness + (0 if blur is None else blur.shape[0] / 2)
    if window(outlines, margin, width, height) is None:
        return
    if figure.shadow:
        cast_shadow(frame, outlines, figure.shadow)
    back = inverse(figure.matrices(t))
    for part, sheet, outline in zip(figure.parts, sheets, outlines, strict=True):
        view = window([outline], margin, width, height)
        if view is None:
            continue
        x0, y0, x1, y1 = view
        alpha = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fill(alpha, outline, x0, y0, int(255 * figure.opacity))
        if figure.softness > 0.3:
            alpha = u8(cv2.GaussianBlur(alpha, (0, 0), figure.softness))
        if blur is not None:
            alpha = u8(cv2.filter2D(alpha, -1, blur, borderType=cv2.BORDER_REPLICATE))
        frame[y0:y1, x0:x1] = mix(frame[y0:y1, x0:x1], surface(figure, part, sheet, t, back, view), alpha)


def silhouette(figure: Figure, t: float, width: int, height: int) -> Grey:
    """[height, width] uint8, 255 where the object is, without its soft edge and whatever is in front of it."""
    mask = np.zeros((height, width), np.uint8)
    for outline in figure.outlines(t):
        layer = np.zeros_like(mask)
        fill(layer, outline, 0, 0)
        mask = u8(cv2.max(mask, layer))
    return mask
