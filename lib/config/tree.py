"""Configuration text: YAML files with `BASE:`, `MIXIN:` and dotted overrides, each value with its origin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from lib.paths import shipped_folder
from lib.registry import suggest

LARGEST_TEXT, MOST_VALUES, DEEPEST = 1 << 20, 20_000, 40
"""Bounds of a configuration: characters, values with aliases written out, and levels."""
OVERRIDE = "override "
"""How the origin of an override begins."""
SCALARS = ("null", "bool", "int", "float", "str")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, line and key."""


@dataclass
class Tree:
    """A mapping of YAML keys to plain values or further trees. `where` has "file:line" for every key."""

    values: dict[str, Any] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> Tree:
        """A tree of nested dictionaries; all keys come from `where`."""
        nested = {k: cls.of(v, where) if isinstance(v, Mapping) else v for k, v in values.items()}
        return cls(nested, dict.fromkeys(nested, where))

    def plain(self) -> dict[str, Any]:
        """The same as nested dictionaries."""
        return {k: as_nested(v) for k, v in self.values.items()}

    def merge(self, over: Tree) -> None:
        """Lay `over` on top: mappings are merged key by key, anything else is replaced.

        A part whose `TYPE` changes is replaced whole, since the old arguments mean nothing to the new type.
        """
        for key, value in over.values.items():
            mine = self.values.get(key)
            if isinstance(mine, Tree) and isinstance(value, Tree) and not _other_type(mine, value):
                mine.merge(value)
            else:
                self.values[key] = value
            self.where[key] = over.where[key]

    def get(self, dotted: str) -> Any:
        """Look up a value.

        Args:
            dotted: Path such as ``TRAIN.SCHEDULER.TYPE``.

        Returns:
            The value, a tree for a mapping; None where there is none.
        """
        head, _, rest = dotted.partition(".")
        value = self.values.get(head)
        return (value.get(rest) if isinstance(value, Tree) else None) if rest else value

    def origin(self, dotted: str) -> str:
        """The "file:line" of a key such as ``TRAIN.LR``; "configuration" where nothing states it."""
        head, _, name = dotted.rpartition(".")
        tree = self.get(head) if head else self
        return tree.where.get(name, "configuration") if isinstance(tree, Tree) else "configuration"

    def is_asked(self, dotted: str) -> bool:
        """True if an override states the value, whether or not it is that of the files."""
        return self.origin(dotted).startswith(OVERRIDE)

    def pop(self, dotted: str) -> tuple[Any, str] | None:
        """Take a value out of the tree.

        Args:
            dotted: Path such as ``TRAIN.SCHEDULER.TYPE``.

        Returns:
            The value and its "file:line"; None where there is none.
        """
        head, _, name = dotted.rpartition(".")
        tree = self.get(head) if head else self
        if not isinstance(tree, Tree) or name not in tree.values:
            return None
        return tree.values.pop(name), tree.where.pop(name)

    def set(self, dotted: str, value: Any, where: str) -> None:
        """Set one value; trees on the way are made.

        Args:
            dotted: Path such as ``TRAIN.SCHEDULER.TYPE``, in any case.
            value: Plain value, list or tree.
            where: Its origin, for messages.
        """
        head, _, rest = dotted.partition(".")
        key = next((k for k in self.values if k.lower() == head.lower()), head)
        if not rest:
            self.values[key], self.where[key] = value, where
            return
        if not isinstance(self.values.get(key), Tree):
            self.values[key] = Tree()
        self.where[key] = where
        self.values[key].set(rest, value, where)


def as_nested(value: Any) -> Any:
    """A value of a tree without trees in it."""
    if isinstance(value, Tree):
        return value.plain()
    return [as_nested(v) for v in value] if isinstance(value, list) else value


def flat_items(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in entries.items():
        flat |= flat_items(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _other_type(mine: Tree, over: Tree) -> bool:
    return "TYPE" in mine.values and "TYPE" in over.values and mine.values["TYPE"] != over.values["TYPE"]


def read_tree(path: Path, overrides: Sequence[str] = ()) -> Tree:
    """Read a YAML file, with ``KEY.PATH=value`` overrides on top.

    ``BASE:`` names one or more files that the file changes (paths relative to it). ``MIXIN:`` names what cuts across
    methods: each is laid over the bases, in order, and the file's own keys over all of them. A mixin is a YAML file in
    a folder `_mixin_` next to the file, next to its folder, or in `experiments`.

    Args:
        path: The file.
        overrides: Texts such as ``TRAIN.LR=1e-4``; their values are YAML.

    Raises:
        ConfigError: For text that is not YAML, a duplicate key, a file that does not exist or a circle of files.
    """
    tree = _read_file(path.resolve(), ())
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {text!r}: expected KEY=VALUE, such as TRAIN.LR=1e-4")
        where = f"{OVERRIDE}{text!r}"
        tree.set(key.strip(), _parse(value, where, has_lines=False), where)
    return tree


def _read_file(path: Path, children: tuple[Path, ...]) -> Tree:
    if path in children:
        chain = " -> ".join(p.name for p in (*children, path))
        raise ConfigError(f"{path}: BASE and MIXIN go round in a circle ({chain})")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such configuration file" + (f" (BASE of {children[-1]})" if children else "")
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: the configuration file cannot be read ({reason})") from None
    own = _parse(text, str(path))
    if own is None:
        raise ConfigError(f"{path}: the configuration file is empty")
    if not isinstance(own, Tree):
        raise ConfigError(f"{path}: expected a mapping of keys at the top, found {as_nested(own)!r:.80}")
    files: list[Path] = []
    for key in ("BASE", "MIXIN"):
        names, where = own.pop(key) or ([], "")
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str) or not name.isprintable():
                raise ConfigError(f"{where}: {key}: expected the name of a file or a list of names, found {name!r:.80}")
            files.append((path.parent / name).resolve() if key == "BASE" else _find_mixin(name, path, where))
    tree = Tree()
    for file in files:
        tree.merge(_read_file(file, (*children, path)))
    tree.pop("PUBLISHED")  # figures of another configuration
    tree.merge(own)
    return tree


def _find_mixin(name: str, path: Path, where: str) -> Path:
    parents = (path.parent, path.parent.parent, shipped_folder("experiments"))
    folders = [parent / "_mixin_" for parent in dict.fromkeys(parents)]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise ConfigError(f"{where}: unknown MIXIN {name!r}{suggest(name, known)} (known: {', '.join(known)})")


@lru_cache(maxsize=256)
def _compose(text: str) -> yaml.Node | None:
    """Bases and mixins are read again for every configuration above them; nobody changes the nodes."""
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _parse(text: str, file: str, has_lines: bool = True) -> Any:
    """A YAML text as trees, lists and plain values.

    Args:
        text: The YAML text.
        file: Its origin, for messages.
        has_lines: Places are "file:line".

    Raises:
        ConfigError: It is not YAML, or not what a configuration can hold; names line and key.
    """
    try:
        if len(text) > LARGEST_TEXT:
            raise ConfigError(f"{file}: {len(text)} characters are no configuration (at most {LARGEST_TEXT})")
        node = _compose(text)
        return None if node is None else _Nodes(file, has_lines).value(node, "", ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        place = f"{file}:{mark.line + 1}" if mark is not None and has_lines else file
        raise ConfigError(f"{place}: this is not YAML ({reason})") from None
    except RecursionError:
        raise ConfigError(
            f"{file}: this is not a configuration, it is nested more than {DEEPEST} levels deep"
        ) from None


@dataclass
class _Nodes:
    """Values of the YAML nodes of one text.

    Attributes:
        file, has_lines: See `_parse`.
        count: Values so far; aliases count each time.
    """

    file: str
    has_lines: bool
    count: int = 0

    def value(self, node: yaml.Node, path: str, parents: tuple[yaml.Node, ...]) -> Any:
        """Value of a node.

        Args:
            node: The node.
            path: Its dotted key.
            parents: Nodes that it lies in.
        """
        place = f"{self.file}:{node.start_mark.line + 1}" if self.has_lines else self.file
        what = f"{place}: {path}" if path else place
        self.count += 1
        if any(node is parent for parent in parents):
            raise ConfigError(f"{what}: an alias (*) stands inside of what it names")
        if self.count > MOST_VALUES or len(parents) > DEEPEST:
            raise ConfigError(
                f"{what}: no configuration has more than {MOST_VALUES} values, aliases (*) written out, or "
                f"{DEEPEST} levels"
            )
        inside = (*parents, node)
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.value(item, f"{path}[{i}]", inside) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and kind in SCALARS:
            if kind in ("int", "float") and re.search(r"[_:]|^[-+]?0\d", node.value):  # 1:30 is 90 and 010 is 8 in YAML
                raise ConfigError(f"{what}: {node.value} is not written as a plain decimal number")
            try:
                return SafeConstructor().construct_object(node)
            except (ValueError, LookupError, ArithmeticError):
                raise ConfigError(f"{what}: {node.value!r:.80} is not of type {kind}") from None
        if isinstance(node, yaml.ScalarNode) and kind == "timestamp":
            return node.value  # a date is text
        if not isinstance(node, yaml.MappingNode) or kind != "map":
            raise ConfigError(f"{what}: values of type {node.tag} are not supported")
        tree = Tree()
        for key_node, value_node in node.value:
            where = f"{self.file}:{key_node.start_mark.line + 1}" if self.has_lines else self.file
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{where}: a key must be a name, not a list or a mapping")
            key = str(key_node.value)
            if key in tree.values:
                raise ConfigError(f"{where}: key {key} is given twice (first at {tree.where[key]})")
            tree.values[key] = self.value(value_node, f"{path}.{key}" if path else key, inside)
            tree.where[key] = where
        return tree
