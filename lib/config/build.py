"""From a configuration tree to frozen dataclasses: every key checked, every value of its declared type."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lib.config.tree import OVERRIDE, ConfigError, Tree, as_nested
from lib.ranges import hints_of, problem_of
from lib.registry import Registry, suggest

C = TypeVar("C")


def require(condition: bool, message: str) -> None:
    """Check the values of a section.

    Args:
        condition: True if they are accepted.
        message: Sentence that names the keys and what is expected.

    Raises:
        ValueError: They are not; `from_tree` adds file, line and section to the message.
    """
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the configuration. The ranges of its keys hold in YAML files and where it is built in Python."""

    def __post_init__(self) -> None:
        hints = hints_of(type(self))
        for f in dataclasses.fields(self):
            if problem := problem_of(hints[f.name], getattr(self, f.name)):
                raise ValueError(f"{f.metadata.get('key', f.name.upper())} {problem}")


@dataclasses.dataclass(frozen=True)
class Part:
    """A node with `TYPE`.

    Attributes:
        type: Name of the registered part.
        args: Arguments of its builder, lower-case.
        where: "file:line" of each argument, and of TYPE.
        key: Dotted key of the node, for messages.
    """

    type: str
    args: dict[str, Any] = dataclasses.field(default_factory=dict)
    where: dict[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    key: str = dataclasses.field(default="", repr=False, compare=False)

    def builder(self, registry: Registry[Callable[..., Any]]) -> Callable[..., Any]:
        """The registered builder.

        Raises:
            ConfigError: There is none, its signature lacks one of the arguments, or a value is none that it accepts.
        """
        try:
            build = registry[self.type]
        except KeyError as error:
            raise ConfigError(f"{self.where.get('TYPE', 'configuration')}: {error}") from None
        known = [name.upper() for name in inspect.signature(build).parameters]
        for name in self.args:
            if name.upper() not in known:
                where, hint = self.where.get(name, "configuration"), suggest(name.upper(), known)
                raise ConfigError(f"{where}: {registry.kind} {self.type} has no argument {name.upper()}{hint}")
        self._converted(build)
        return build

    def _converted(self, build: Callable[..., Any]) -> dict[str, Any]:
        """The arguments as the types that the builder's annotations state; one without an annotation as it is."""
        hints = hints_of(build)

        def convert(name: str, value: Any) -> Any:
            path = ".".join(filter(None, (self.key, name.upper())))
            value = list(value) if isinstance(value, tuple) else value
            place = f"{self.where.get(name, 'configuration')}: {path}"
            return _frozen(_convert(hints.get(name, Any), value, place))

        return {name: convert(name, value) for name, value in self.args.items()}

    def build(self, registry: Registry[Callable[..., Any]], **given: Any) -> Any:
        """Build the part.

        Args:
            registry: Where its type is looked up.
            **given: Arguments that the method decides; those that the builder does not take are left out, and those
                that the configuration states take precedence.

        Raises:
            ConfigError: As `builder`, and where the part refuses a combination of arguments.
        """
        build = self.builder(registry)
        known = inspect.signature(build).parameters
        given = {k: v for k, v in given.items() if k in known and k not in self.args}
        try:
            return build(**given, **self._converted(build))
        except ValueError as error:
            key = self.key or registry.kind
            raise ConfigError(f"{self.where.get('TYPE', 'configuration')}: {key} {self.type}: {error}") from None


def from_tree(schema: type[C], tree: Tree, path: str = "", default: Any = None) -> C:
    """Make a section from a tree.

    Args:
        schema: Frozen dataclass; keys are its field names in upper case, or the field's `key` metadata.
        tree: The keys and values.
        path: Dotted path of the section with a dot behind it, for messages.
        default: A section whose values stand for keys that are not stated; None: the defaults of `schema`.

    Raises:
        ConfigError: Names file, line, key and, for an unknown key, the nearest known one.
    """
    hints = hints_of(schema)
    by_key = {f.metadata.get("key", f.name.upper()): f for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in tree.values.items():
        if key not in by_key:
            raise ConfigError(f"{tree.where[key]}: unknown key {path}{key}{suggest(key, list(by_key))}")
        f, what = by_key[key], f"{tree.where[key]}: {path}{key}"
        given = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        given = getattr(default, f.name) if isinstance(default, schema) else given
        values[f.name] = _convert(hints[f.name], value, what, given)
    if isinstance(default, schema):
        values = {f.name: getattr(default, f.name) for f in by_key.values()} | values
    for key, f in by_key.items():
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"configuration: {path}{key} is missing")
    try:
        return schema(**values)
    except ValueError as error:
        message = str(error)
        named = path if message[:1].isupper() or not path else f"{path.rstrip('.')}: "
        raise ConfigError(f"{_stated_at(tree, message)}: {named}{message}") from None


def _stated_at(tree: Tree, message: str) -> str:
    """The place of a key that a message names, an override's before a file's; of the section if it names none."""
    places = [tree.origin(key) for key in re.findall(r"[A-Z][A-Z0-9_.]*", message)]
    places = sorted((p for p in places if p != "configuration"), key=lambda place: not place.startswith(OVERRIDE))
    return next(iter([*places, *tree.where.values()]), "configuration")


def _convert(hint: Any, value: Any, what: str, default: Any = None) -> Any:
    """A value as the type `hint`. what: "place: key", for messages. default: of it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        value = _convert(args[0], value, what, default)
        if problem := problem_of(hint, value):
            raise ConfigError(f"{what} {problem}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        problems = []
        for option in args:
            try:
                if option is not type(None):
                    return _convert(option, value, what, default)
            except ConfigError as error:
                problems.append(error)
        raise problems[-1 if isinstance(value, list) else 0]
    if hint is Any:
        return as_nested(value)
    if hint is Part:
        return _part(value, what)
    if origin in (tuple, Sequence):
        if not isinstance(value, list):
            raise ConfigError(f"{what}: expected a list, found {_shown(value)}")
        return tuple(_convert(args[0], v, f"{what}[{i}]") for i, v in enumerate(value))
    if origin is not dict and not dataclasses.is_dataclass(hint):
        return _scalar(hint, value, what)
    if not isinstance(value, Tree):
        raise ConfigError(f"{what}: expected a mapping of keys, found {_shown(value)}")
    if origin is dict:
        return {k: _convert(args[1], v, f"{what}.{k}") for k, v in value.values.items()}
    key = what.rpartition(": ")[2]
    return value if hint is Tree else from_tree(typing.cast(type, hint), value, f"{key}.", default)


def _scalar(hint: Any, value: Any, what: str) -> Any:
    if hint is float and not isinstance(value, bool):
        # YAML 1.1 reads 1e-4 as text, since it has no dot.
        try:
            if "_" not in str(value) and math.isfinite(number := float(value)):
                return number
        except (TypeError, ValueError):
            pass
    elif hint is bool and isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    elif hint is int and not isinstance(value, bool) and isinstance(value, (int, float)) and float(value).is_integer():
        return int(value)
    elif hint is str and (value is None or isinstance(value, str)):
        return value or ""  # `KEY:` and KEY= are an empty text
    words = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}
    expected = words.get(hint, getattr(hint, "__name__", hint))
    raise ConfigError(f"{what}: expected {expected}, found {_shown(value)}")


def _shown(value: Any) -> str:
    """A value of a tree for a message."""
    if isinstance(value, Tree | list):
        return "a mapping of keys" if isinstance(value, Tree) else f"a list of {len(value)}"
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _part(value: Any, what: str) -> Part:
    where, _, key = what.rpartition(": ")
    if isinstance(value, str):
        return Part(value, {}, {"TYPE": where}, key)
    if not isinstance(value, Tree) or not isinstance(value.values.get("TYPE"), str):
        raise ConfigError(f"{what}: expected a mapping with a TYPE, such as {{TYPE: CENTER}}")
    plain = value.plain()
    args = {k.lower(): _frozen(v) for k, v in plain.items() if k != "TYPE"}
    return Part(plain["TYPE"], args, {k if k == "TYPE" else k.lower(): w for k, w in value.where.items()}, key)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def as_plain(config: Any) -> Any:
    """The resolved configuration as YAML-able dictionaries and lists with upper-case keys.

    Args:
        config: A section, or a value in one. A field with `section` metadata is left out when it is None or empty, so
            that a new optional section changes no hash; one with `remark` metadata always.
    """
    if isinstance(config, Tree):
        return config.plain()
    if isinstance(config, Part):
        return {"TYPE": config.type, **{k.upper(): as_plain(v) for k, v in config.args.items()}}
    if dataclasses.is_dataclass(config):
        return {
            f.metadata.get("key", f.name.upper()): as_plain(value)
            for f in dataclasses.fields(config)
            if not f.metadata.get("remark")
            if (value := getattr(config, f.name)) not in (None, Tree(), {}) or not f.metadata.get("section")
        }
    if isinstance(config, dict):
        return {k: as_plain(v) for k, v in config.items()}
    if isinstance(config, (list, tuple)):
        return [as_plain(v) for v in config]
    return config


@dataclasses.dataclass(frozen=True)
class InertKey:
    """A key of published files that has no effect here.

    Attributes:
        reason: Reason, for the warning.
        usual: Values that cause no warning, since they agree with what this library does.
        refused: Another value is an error, since the network or the tracker would have to be another one.
    """

    reason: str
    usual: tuple[Any, ...] = ()
    refused: bool = False


class ConfigWarning(UserWarning):
    """A key that somebody set and that has no effect."""


def take_inert(tree: Tree, inert: Mapping[str, InertKey]) -> list[str]:
    """Take keys without effect out of a tree.

    Args:
        tree: The configuration as it was read; changed in place.
        inert: By dotted key.

    Returns:
        A warning for each key that was set to an unusual value.

    Raises:
        ConfigError: For a refused value.
    """
    notes = []
    for dotted, key in inert.items():
        found = tree.pop(dotted)
        if found is None or as_nested(found[0]) in key.usual:
            continue
        value, where = as_nested(found[0]), found[1]
        if key.refused:
            raise ConfigError(f"{where}: {dotted} {value!r} is not supported: {key.reason}")
        notes.append(f"{where}: {dotted} has no effect: {key.reason}")
    return notes


def config_hash(config: Any) -> str:
    """Identity of a resolved configuration.

    Args:
        config: A section, or a whole experiment's configuration.

    Returns:
        Twelve hex digits that change when any resolved value changes.
    """
    text = json.dumps(as_plain(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
