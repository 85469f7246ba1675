"""Search space of a tracker's settings, and their keys in a configuration."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from lib.bench.benchmarks import BENCHMARKS, Benchmark
from lib.registry import suggest
from lib.track import Tracker

DIGITS = 4
"""Significant digits of values that are drawn."""
Setting = Mapping[str, float]
"""Key of TEST, in lower case with dots -> value."""


@dataclass(frozen=True)
class Span:
    """Values of one key that are tried.

    Attributes:
        key: In lower case, with dots.
        values: Of a list; empty for a range.
        low, high: Of a range.
    """

    key: str
    values: tuple[float, ...] = ()
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `KEY=0.2,0.3` (a list), `KEY=0.2:0.6` (a range) or `KEY=0.2:0.6:5` (a list of 5).

        Args:
            text: As on the command line.

        Raises:
            ValueError: It is nothing of this, or the range is empty.
        """
        key, _, values = text.partition("=")
        expected = f"{text}: expected KEY=LOW:HIGH, KEY=LOW:HIGH:NUMBER or KEY=VALUE,VALUE,..."
        try:
            parts = [float(part) for part in values.split(":" if ":" in values else ",")]
        except ValueError:
            raise ValueError(expected) from None
        if not key.strip() or not all(map(math.isfinite, parts)):
            raise ValueError(expected)
        key = key.strip().lower().removeprefix("test.")
        if ":" not in values:
            return cls(key, tuple(dict.fromkeys(parts)))
        if len(parts) > 3:
            raise ValueError(expected)
        low, high = parts[:2]
        if low >= high:
            raise ValueError(f"{text}: the range is empty; LOW must be below HIGH")
        if len(parts) == 2:
            return cls(key, low=low, high=high)
        if parts[2] < 2 or not parts[2].is_integer():
            raise ValueError(f"{text}: the number of values must be a whole one from 2 on")
        return cls(key, tuple(float(f"{v:.{DIGITS}g}") for v in np.linspace(low, high, int(parts[2]))))

    def draw(self, rng: np.random.Generator, whole: bool) -> float:
        """A value at random, with few digits.

        Args:
            rng: Source of random numbers.
            whole: The key takes whole numbers.
        """
        if self.values:
            return self.values[int(rng.integers(len(self.values)))]
        if whole:
            return int(rng.integers(math.ceil(self.low), math.floor(self.high) + 1))
        return float(f"{rng.uniform(self.low, self.high):.{DIGITS}g}")


def settings_to_try(spans: Sequence[Span], untuned: Setting, trials: int, seed: int) -> list[Setting]:
    """The settings of a search; the untuned one is the first.

    Args:
        spans: What is tried.
        untuned: Values of the configuration.
        trials: Number of random settings; 0: all combinations of the lists.
        seed: Of the draws.

    Raises:
        ValueError: All combinations of a range are requested.
    """
    ranges = [span.key.upper() for span in spans if not span.values]
    if not trials and ranges:
        ways = "--trials NUMBER for random settings, or LOW:HIGH:NUMBER for a grid"
        raise ValueError(f"{ranges[0]} is a range: say {ways}")
    rng, whole = np.random.default_rng(seed), {key for key, value in untuned.items() if isinstance(value, int)}
    rows: list[Sequence[float]] = list(itertools.product(*(span.values for span in spans)))
    if trials:
        rows = [[span.draw(rng, span.key in whole) for span in spans] for _ in range(trials)]
    found = [dict(untuned)]
    for row in rows:
        pairs = zip((span.key for span in spans), row, strict=True)
        found.append({key: int(v) if key in whole and float(v).is_integer() else v for key, v in pairs})
    return list({json.dumps(setting): setting for setting in found}.values())


def check_keys(tracker: Tracker, keys: Sequence[str]) -> None:
    """Check that a tracker names these keys for a search.

    Args:
        tracker: Of the configuration.
        keys: In lower case.

    Raises:
        ValueError: It does not name one, or a key is there twice.
    """
    known = [key.upper() for key in (*tracker.row_keys, *tracker.tracker_keys)]
    for key in keys:
        if key.upper() not in known:
            what = f"expected one of {', '.join(known)}" if known else "it names none"
            hint = suggest(key.upper(), known)
            raise ValueError(f"{key.upper()} is no key that {type(tracker).__name__} names for a search{hint} ({what})")
        if keys.count(key) > 1:
            raise ValueError(f"{key.upper()} is given twice; one list or range per key is expected")


def overrides_of(setting: Setting, benchmark: Benchmark) -> tuple[str, ...]:
    """`KEY=VALUE` texts that give a benchmark a setting, whatever TEST.BY_BENCHMARK of the file says.

    Args:
        setting: The setting.
        benchmark: The benchmark.
    """
    by_name = f"BY_BENCHMARK.{benchmark.name.upper()}." if benchmark.name in BENCHMARKS else ""
    return tuple(f"TEST.{by_name}{key.upper()}={value!r}" for key, value in setting.items())


def yaml_snippet(setting: Setting, benchmark: Benchmark, remark: str) -> str:
    """YAML to be pasted into a configuration.

    Args:
        setting: The setting.
        benchmark: That it is for.
        remark: Written above it.
    """
    tree: dict[str, Any] = {}
    for text in overrides_of(setting, benchmark):
        path, _, value = text.partition("=")
        *sections, name = path.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = json.loads(value)
    return f"# {remark}\n{yaml.safe_dump(tree, sort_keys=False)}"
