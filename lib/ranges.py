"""Accepted values of settings, as annotations: `size: Side = 256` is checked wherever a configuration sets it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import cache, partial
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from lib.registry import suggest


@dataclass(frozen=True)
class Range:
    """Accepted numbers.

    Attributes:
        low, high: Bounds; None for none.
        above, below: The bound itself is not accepted.
    """

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def problem(self, value: float) -> str:
        """A phrase such as ``must be at least 1, not 0``; empty for an accepted number."""
        low = self.low is None or (value > self.low if self.above else value >= self.low)
        high = self.high is None or (value < self.high if self.below else value <= self.high)
        if low and high:
            return ""
        bounds = []
        if self.low is not None:
            bounds.append(f"{'above' if self.above else 'at least'} {self.low:g}")
        if self.high is not None:
            bounds.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        allowed = f"be {' and '.join(bounds)}"
        if len(bounds) == 2 and not (self.above or self.below):
            allowed = f"lie in {self.low:g}..{self.high:g}"
        return f"must {allowed}, not {value!r}"


@dataclass(frozen=True)
class Choice:
    """Accepted words, two or more.

    Attributes:
        words: The words.
        any_case: They may be written in upper or lower case.
    """

    words: tuple[str, ...]
    any_case: bool = False

    def problem(self, value: str) -> str:
        """A phrase such as ``must be RGB or BGR, not 'x'``; empty for an accepted word."""
        if value in self.words or (self.any_case and value.lower() in map(str.lower, self.words)):
            return ""
        expected = f"{', '.join(self.words[:-1])} or {self.words[-1]}"
        return f"must be {expected}, not {value!r}{suggest(value, self.words)}"


def hints_of(definition: Callable[..., Any]) -> dict[str, Any]:
    """Types of what is set in a section, or of the arguments of a builder, with their ranges.

    Args:
        definition: A dataclass, a function, or a class that is built with the arguments of its `__init__`.
    """
    plain = inspect.isfunction(definition) or is_dataclass(definition)
    return _read_hints(definition if plain else definition.__init__)


_read_hints = cache(partial(get_type_hints, include_extras=True))


def problem_of(hint: Any, value: Any) -> str:
    """Violation of a type annotation's range by a value.

    Args:
        hint: Type of a setting, such as `Count`, `Share | None` or `tuple[Count, ...]`.
        value: Of that type, but for its range.

    Returns:
        A phrase, see `Range.problem`; empty for an accepted value.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return "; ".join(filter(None, (accepted.problem(value) for accepted in args[1:])))
    if origin is tuple and isinstance(value, tuple):
        return next(filter(None, (problem_of(args[0], item) for item in value)), "")
    if origin in (Union, UnionType) and value is not None:
        listed = isinstance(value, tuple)
        return next((problem_of(a, value) for a in args if (get_origin(a) is tuple) is listed), "")
    return ""


Count = Annotated[int, Range(1)]
CountOrNone = Annotated[int, Range(0)]
"""A number of things, where 0 stands for none."""
Side = Annotated[int, Range(1, 8192)]
"""Side of a picture in pixels."""
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Ratio = Annotated[float, Range(0, 1, above=True)]
"""A share that is not zero."""
Rate = Annotated[float, Range(0, 1, below=True)]
"""A share that is not all, such as of dropout."""
