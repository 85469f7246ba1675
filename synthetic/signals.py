"""Smooth functions of time in closed form, so that any frame can be computed without the frames before it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import overload
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def stream(seed: int, name: str) -> np.random.Generator:
    """A random stream of its own for every (seed, purpose): a new use of chance changes no other."""
    return np.random.default_rng([seed, crc32(name.encode())])


def smoothstep(x: Array) -> Array:
    """0 below 0, 1 above 1, a cubic in between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


@dataclass(frozen=True, slots=True)
class Bump:
    """An excursion of `height`: rises over `rise` frames from `start`, holds for `hold` frames and falls as it rose."""

    start: float
    rise: float
    hold: float
    height: float

    def __call__(self, t: Array) -> Array:
        up = smoothstep((t - self.start) / self.rise)
        down = smoothstep((t - self.start - self.rise - self.hold) / self.rise)
        return self.height * (up - down)


@dataclass(frozen=True, slots=True)
class Signal:
    """``base + sum_k a_k sin(2 pi f_k t + phase_k) + drift t + bumps``; frequencies f in cycles per frame."""

    base: float = 0.0
    amplitude: tuple[float, ...] = ()
    frequency: tuple[float, ...] = ()
    phase: tuple[float, ...] = ()
    drift: float = 0.0
    bumps: tuple[Bump, ...] = ()

    @overload
    def __call__(self, t: float) -> float: ...

    @overload
    def __call__(self, t: Array) -> Array: ...

    def __call__(self, t: float | Array) -> float | Array:
        """The value at time `t` (frames, fractions allowed), or the values at an array of times."""
        if not isinstance(t, np.ndarray):
            return self._at(t)
        out = np.full(t.shape, self.base)
        if self.drift:
            out = out + self.drift * t
        for a, f, p in zip(self.amplitude, self.frequency, self.phase, strict=True):
            out = out + a * np.sin(2 * np.pi * f * t + p)
        for bump in self.bumps:
            out = out + bump(t)
        return out

    def _at(self, t: float) -> float:
        # Single frames are requested far more often than all of them, and arrays of one element are slow.
        value = self.base + self.drift * t
        for a, f, p in zip(self.amplitude, self.frequency, self.phase, strict=True):
            value += a * math.sin(2 * math.pi * f * t + p)
        for bump in self.bumps:
            value += float(bump(np.asarray(t, dtype=np.float64)))
        return value

    def slowed(self, factor: float) -> Signal:
        """The same shape played at `factor` times the speed."""
        return replace(self, frequency=tuple(f * factor for f in self.frequency), drift=self.drift * factor)

    def plus(self, *bumps: Bump) -> Signal:
        return replace(self, bumps=self.bumps + bumps)


STILL = Signal()


def wander(rng: np.random.Generator, base: float, reach: float, period: float, waves: int = 3) -> Signal:
    """A smooth random walk that never leaves ``base +- reach``; `period`: frames of its slowest wave."""
    share = rng.uniform(0.3, 1.0, waves) / np.arange(1, waves + 1)
    share = reach * share / share.sum()
    frequency = np.arange(1, waves + 1) * rng.uniform(0.75, 1.25, waves) / period
    phase = rng.uniform(0, 2 * np.pi, waves)
    return Signal(base, tuple(share.tolist()), tuple(frequency.tolist()), tuple(phase.tolist()))


def shake(rng: np.random.Generator, reach: float) -> Signal:
    """The tremble of a hand: four quick waves of no common period."""
    share = reach * rng.dirichlet(np.ones(4))
    frequency = rng.uniform(0.06, 0.31, 4)
    return Signal(0.0, tuple(share.tolist()), tuple(frequency.tolist()), tuple(rng.uniform(0, 6.28, 4).tolist()))
