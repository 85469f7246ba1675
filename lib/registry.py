"""Registries of parts by name: a YAML ``TYPE`` or a command-line name selects a registered part."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, cast

T = TypeVar("T")
P = TypeVar("P")


def suggest(name: str, known: Sequence[str]) -> str:
    """A hint for the message about an unknown name.

    Args:
        name: The unknown name.
        known: Names that exist; case is ignored.

    Returns:
        ``"; did you mean 'x'?"`` for the nearest known name, or an empty string.
    """
    folded = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.85)
    near = near or sorted((k for k in folded if name.lower().startswith(f"{k}_")), key=len)[-1:]  # lasot for lasot_dir
    near = near or difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def listed(items: Sequence[str], limit: int = 10, separator: str = ", ") -> str:
    """The first of some items for a message: "a, b, and 4 more".

    Args:
        items: Names or sentences.
        limit: Number of those that are shown.
        separator: Between two of them.
    """
    more = [f"and {len(items) - limit} more"] if len(items) > limit else []
    return separator.join([*items[:limit], *more])


class UnknownNameError(KeyError):
    """A name that no part was registered under."""

    def __str__(self) -> str:
        return str(self.args[0])


class Registry(Generic[T]):
    """Parts of one kind by name, case-insensitive.

    >>> heads: Registry[type] = Registry("head")
    >>> @heads.register("CENTER")
    ... class Center: ...
    >>> heads["center"] is Center
    True

    Args:
        kind: Word for a part, for messages.
        hint: What an unknown name is, in place of the nearest known one; "" if that is not known.
    """

    def __init__(self, kind: str, hint: Callable[[str], str] = lambda name: "") -> None:
        self.kind, self._hint = kind, hint
        self._parts: dict[str, T] = {}
        self._names: dict[str, str] = {}

    def register(self, *names: str) -> Callable[[P], P]:
        """Decorator that makes a part known under names.

        Args:
            *names: Name and aliases of the part.

        Raises:
            ValueError: Another part has one of the names.
        """

        def add(part: P) -> P:
            for name in names:
                key = name.lower()
                if key in self._parts and self._parts[key] is not part:
                    raise ValueError(f"{self.kind} {name!r} is registered twice")
                self._parts[key] = cast(T, part)
                self._names[key] = name
            return part

        return add

    def __getitem__(self, name: str) -> T:
        try:
            return self._parts[name.lower()]
        except KeyError:
            known = sorted(self._names.values())
            hint = self._hint(name) or suggest(name, known)
            raise UnknownNameError(f"unknown {self.kind} {name!r}{hint} (known: {', '.join(known)})") from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names.values()))

    def values(self) -> list[T]:
        """The parts, each once, in the order of registration."""
        return list({id(part): part for part in self._parts.values()}.values())
