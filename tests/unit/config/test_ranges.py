"""Ranges: every key that the sections and parts of all methods have states its values, and refuses others."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest

from lib.config import ConfigError, Part, Schedule, Section, Train, TrainPhase, Tree, from_tree
from lib.data import AUGMENTATIONS, CROP_STYLES
from lib.methods import METHODS, load_experiment
from lib.objectives import POLICIES
from lib.ranges import Choice, Range, hints_of
from lib.registry import Registry

load_experiment("ostrack", "synthetic_small")  # registers all methods
NAMES = {
    # names of registered parts, which are looked up while a configuration is read or a training is set up
    "DATA.SAMPLER_MODE", "DATA.COLLATE", "SLT.CLIP_SAMPLER",
    "DATA.TRAIN.DATASETS_NAME", "DATA.VAL.DATASETS_NAME",
    # files, experiments and regular expressions
    "MODEL.PRETRAIN_FILE", "SLT.START", "TRAIN.PARAM_GROUPS.PATTERN", "TRAIN.PHASES.PARAM_GROUPS.PATTERN",
    "TRAIN.PHASES.EVAL_MODULES",
    *(f"{section}.{key}" for section in ("TEACHER", "INIT") for key in ("SCRIPT", "CONFIG", "CHECKPOINT")),
}  # fmt: skip
"""Keys with free text."""
NEEDED = {"PATTERN": ".*", "SCRIPT": "ostrack", "CONFIG": "synthetic_small"}
CONFIGS = {method.name: method.config for method in METHODS.values()}
REGISTRIES: dict[str, Registry[Callable[..., Any]]] = {
    "AUGMENT": AUGMENTATIONS, "CROP_STYLE": CROP_STYLES, "POLICY": POLICIES,
    **{f"{m.name} {dotted}": registry for m in METHODS.values() for dotted, registry in m.parts.items()},
}  # fmt: skip
UNUSED = {"cat_mode", "mid_pe", "merge_layer", "add_cls_token", "cls_token_use_mode"}


def leaves(hint: Any) -> Iterator[tuple[Any, bool]]:
    """The scalar types of a field, each with True if it stands in a list."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in args:
            yield from leaves(option)
    elif origin is dict:
        yield from leaves(args[1])
    elif origin in (tuple, Sequence):
        for scalar, _ in leaves(args[0]):
            yield scalar, True
    elif hint not in (types.NoneType, Part, Tree, bool):
        yield hint, False


def keys(section: Any, path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Dotted key, scalar type, and whether it stands in a list, for all keys of a section."""
    hints = hints_of(section)
    for f in dataclasses.fields(section):
        for hint, listed in leaves(hints[f.name]):
            if dataclasses.is_dataclass(hint):
                yield from keys(hint, f"{path}{f.name.upper()}.")
            else:
                yield f"{path}{f.name.upper()}", hint, listed


def own_keys(method: str) -> list[tuple[str, Any, bool]]:
    """Keys of a method but for those that one before it has with the same values."""
    before = itertools.takewhile(lambda other: other != method, CONFIGS)
    known = {(key, repr(hint)) for other in before for key, hint, _ in keys(CONFIGS[other])}
    return [(key, hint, listed) for key, hint, listed in keys(CONFIGS[method]) if (key, repr(hint)) not in known]


def outside(hint: Any) -> list[Any]:
    """Values that a scalar type does not accept."""
    base = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    found: list[Any] = [
        [[]],
        "text" if base is not str else 3,
        *([math.nan, math.inf, -math.inf] if base is not str else []),
    ]
    for accepted in getattr(hint, "__metadata__", ()):
        if isinstance(accepted, Choice):
            found.append("none of these")
        elif isinstance(accepted, Range):
            step = 1 if base is int else 1e-6
            found += [] if accepted.low is None else [accepted.low if accepted.above else accepted.low - step]
            found += [] if accepted.high is None else [accepted.high if accepted.below else accepted.high + step]
    return [int(v) if base is int and isinstance(v, float) and math.isfinite(v) else v for v in found]


def has_range(hint: Any) -> bool:
    return any(
        isinstance(m, Choice) or (isinstance(m, Range) and m.low is not None) for m in getattr(hint, "__metadata__", ())
    )


def tree_with(section: Any, dotted: str, value: Any) -> Tree:
    """A tree with one key, and what the sections on its way cannot do without; lists of sections have one entry."""
    head, _, rest = dotted.partition(".")
    inner, where = value, "x.yaml:7"
    if head == "PUBLISHED":  # benchmark -> label -> figure
        inner = Tree.of({"LASOT": {"AUC": value}}, where)
    if rest:
        hint = hints_of(section)[head.lower()]
        below = next(s for s, _ in leaves(hint) if dataclasses.is_dataclass(s))
        inner = tree_with(below, rest, value)
        for f in dataclasses.fields(below):
            key = f.name.upper()
            if (
                f.default is dataclasses.MISSING
                and f.default_factory is dataclasses.MISSING
                and key not in inner.values
            ):
                inner.set(key, NEEDED[key], where)
        inner = [inner] if any(listed for _, listed in leaves(hint)) else inner
    return Tree({head: inner}, {head: where})


@pytest.mark.parametrize("method", CONFIGS)
def test_every_key_of_the_schema_refuses_what_is_outside_its_range(method: str) -> None:
    config, unchecked = CONFIGS[method], []
    for key, hint, listed in own_keys(method):
        if not has_range(hint) and key not in NAMES:
            unchecked.append(key)
        for value in outside(hint):
            with pytest.raises(ConfigError) as caught:
                from_tree(config, tree_with(config, key, [value] if listed and value != [[]] else value))
            sentence = str(caught.value)
            last = key.rpartition(".")[2]
            assert sentence.startswith("x.yaml:7: "), (key, value, sentence)
            assert last in sentence, (key, value, sentence)
            assert value == [[]] or repr(value) in sentence, (key, value, sentence)
    assert not unchecked, f"keys without a range (see lib/ranges.py): {unchecked}"


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_argument_of_a_part_refuses_what_is_outside_its_range(kind: str) -> None:
    registry, unchecked = REGISTRIES[kind], []
    for name in registry:
        build = registry[name]
        if not build.__module__.startswith("lib."):
            continue  # of another test
        hints = hints_of(build)
        for argument in inspect.signature(build).parameters.keys() - UNUSED - {"inputs"}:
            for hint, listed in leaves(hints.get(argument, Any)):
                if not has_range(hint) and argument != "name":
                    unchecked.append(f"{name} {argument}")
                for value in outside(hint):
                    part = Part(name, {argument: (value,) if listed else value}, {argument: "x.yaml:7"}, "PART")
                    with pytest.raises(ConfigError, match=rf"^x\.yaml:7: PART\.{argument.upper()}\b"):
                        part.builder(registry)
    assert not unchecked, f"arguments without a range: {unchecked}"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("DATA.SEARCH.CENTER_JITTER=-1", "DATA.SEARCH.CENTER_JITTER must be at least 0, not -1.0"),
        ("DATA.MAX_SAMPLE_INTERVAL=-5", "DATA.MAX_SAMPLE_INTERVAL must be at least 1, not -5"),
        ("DATA.MAX_SAMPLE_INTERVAL=[-5]", r"DATA.MAX_SAMPLE_INTERVAL\[0\] must be at least 1, not -5"),
        ("TRAIN.GRAD_CLIP_NORM=-1", "TRAIN.GRAD_CLIP_NORM must be at least 0, not -1.0"),
        ("TRAIN.LR=.inf", "TRAIN.LR: expected a finite number, found inf"),
        ("TRAIN.LR=1_0e-4", "TRAIN.LR: expected a finite number, found '1_0e-4'"),
        ("MODEL.BACKBONE.DEPTH=0", "MODEL.BACKBONE.DEPTH must be at least 1, not 0"),
        ("MODEL.BACKBONE.CE_KEEP_RATIO=[0.5, .nan]", r"MODEL.BACKBONE.CE_KEEP_RATIO\[1\]: expected a finite number"),
        ("MODEL.HEAD.PRIOR=1", "MODEL.HEAD.PRIOR must be above 0 and below 1, not 1.0"),
        ("TEST.SEARCH_SIZE=0", "TEST.SEARCH_SIZE must lie in 1..8192, not 0"),
        (
            "DATA.SEARCH.SIZE=95",
            r"DATA.SEARCH.SIZE must be a multiple of the stride 8 \(MODEL.BACKBONE.STRIDE\), not 95",
        ),
        (
            "DATA.AUGMENT.TRANSFORMS=[{TYPE: blur, PROBABILITY: 2}]",
            r"TRANSFORMS\[0\].PROBABILITY must lie in 0..1, not 2.0",
        ),
        ("PUBLISHED={LASOT: {AUC: 691}}", "PUBLISHED.LASOT.AUC must lie in 0..100, not 691.0"),
        ("DATA.CHANNELS=GBR", "DATA.CHANNELS must be RGB or BGR, not 'GBR'"),
    ],
)
def test_a_value_outside_its_range_is_one_sentence(override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"^override '.*': .*{expected}"):
        load_experiment("ostrack", "synthetic_small", [override])


def test_arguments_that_do_not_fit_together_name_file_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("METHOD: ostrack\nMODEL:\n  BACKBONE:\n    TYPE: vit\n    NUM_HEADS: 7\n")
    backbone = load_experiment("ostrack", str(tmp_path / "a.yaml")).config.model.backbone
    with pytest.raises(ConfigError, match=r"a\.yaml:4: MODEL\.BACKBONE vit: .*not a multiple of the number of heads 7"):
        backbone.build(REGISTRIES["ostrack model.backbone"])


def test_ranges_hold_for_sections_that_are_built_in_python() -> None:
    for made, message in (
        (lambda: Train(lr=0.0), "LR must be above 0, not 0.0"),
        (lambda: Train(save_epochs=(3, 0)), "SAVE_EPOCHS must be at least 1, not 0"),
        (lambda: Train(scheduler=Schedule(warmup_type="rampp")), "WARMUP_TYPE must be .* did you mean 'ramp'"),
        (lambda: Schedule("stepp"), "TYPE must be step, Mstep, cosine or log, not 'stepp'; did you mean 'step'"),
        (lambda: TrainPhase(lr=-1.0), "LR must be above 0, not -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            made()
    assert Train(optimizer="adamw", scheduler=Schedule("mstep", milestones=(3,))).optimizer == "adamw"
    assert TrainPhase().lr is None


def test_sections_with_checks_of_their_own_keep_the_ranges() -> None:
    pending = [Section]
    while pending:
        section = pending.pop()
        pending += section.__subclasses__()
        own = section.__dict__.get("__post_init__")
        if own is not None and section is not Section:
            assert "__post_init__" in own.__code__.co_names, f"{section.__name__} does not call super().__post_init__()"
