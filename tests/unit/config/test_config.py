"""Configuration: inheritance, overrides, and errors that name file, line and key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.config import Config, ConfigError, Part, as_plain, config_hash, from_tree, read_tree
from lib.registry import Registry


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_values_reach_their_fields(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "TRAIN: {LR: 1e-4, EPOCH: 12}\nDATA:\n  SEARCH: {SIZE: 96, FACTOR: 4}\n")
    config = from_tree(Config, read_tree(path))
    assert (config.train.lr, config.train.epoch) == (1e-4, 12)
    assert (config.data.search.size, config.data.search.factor) == (96, 4.0)


def test_unknown_key_names_file_line_and_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "TRAIN:\n  LR: 0.1\n  BATCHSIZE: 3\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:3: unknown key TRAIN\.BATCHSIZE; did you mean 'BATCH_SIZE'\?"):
        from_tree(Config, read_tree(path))


def test_wrong_type_names_file_line_and_key(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "TRAIN:\n  EPOCH: .inf\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:2: TRAIN\.EPOCH: expected int, found inf"):
        from_tree(Config, read_tree(path))
    path = write(tmp_path, "a.yaml", "TRAIN:\n  EPOCH: many\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:2: TRAIN\.EPOCH: expected int, found 'many'"):
        from_tree(Config, read_tree(path))


def test_base_is_inherited_and_a_changed_type_drops_the_old_arguments(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "MODEL:\n  BACKBONE: {TYPE: one, DEPTH: 3}\n  HEAD: {TYPE: CENTER, NUM_CHANNELS: 8}\n")
    path = write(
        tmp_path, "a.yaml", "BASE: base.yaml\nMODEL:\n  BACKBONE: {TYPE: two, WIDTH: 4}\n  HEAD: {NUM_CHANNELS: 9}\n"
    )
    model = from_tree(Config, read_tree(path)).model
    assert model.backbone == Part("two", {"width": 4})
    assert model.head == Part("CENTER", {"num_channels": 9})


def test_base_in_a_circle_or_missing(tmp_path: Path) -> None:
    write(tmp_path, "b.yaml", "BASE: a.yaml\n")
    with pytest.raises(ConfigError, match="circle"):
        read_tree(write(tmp_path, "a.yaml", "BASE: b.yaml\n"))
    with pytest.raises(ConfigError, match=r"none\.yaml: no such configuration file"):
        read_tree(write(tmp_path, "c.yaml", "BASE: none.yaml\n"))


def test_duplicate_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml:2: key TRAIN is given twice"):
        read_tree(write(tmp_path, "a.yaml", "TRAIN: {}\nTRAIN: {}\n"))


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "TRAIN: {LR: 1.0}\n")
    tree = read_tree(path, ["TRAIN.LR=2e-3", "DATA.TRAIN.DATASETS_NAME=[LASOT]", "DATA.TRAIN.DATASETS_RATIO=[1]"])
    config = from_tree(Config, tree)
    assert config.train.lr == 2e-3
    assert config.data.train.names == ("LASOT",)
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        read_tree(path, ["TRAIN.LR"])
    with pytest.raises(ConfigError, match=r"override 'TRAIN\.LRR=1': unknown key TRAIN\.LRR"):
        from_tree(Config, read_tree(path, ["TRAIN.LRR=1"]))


def test_null_data_set_means_none(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "DATA: {VAL: {DATASETS_NAME: [null], DATASETS_RATIO: [1]}}\n")
    assert from_tree(Config, read_tree(path)).data.val.names == ()


def test_part_arguments_are_checked_against_the_builder(tmp_path: Path) -> None:
    heads: Registry = Registry("head")

    @heads.register("CENTER")
    def center(inputs: int, num_channels: int = 1) -> tuple[int, int]:
        return inputs, num_channels

    path = write(tmp_path, "a.yaml", "MODEL:\n  HEAD:\n    TYPE: CENTER\n    NUM_CHANNEL: 9\n")
    part = from_tree(Config, read_tree(path)).model.head
    with pytest.raises(ConfigError, match=r"a\.yaml:4: head CENTER has no argument NUM_CHANNEL; did you mean"):
        part.build(heads, inputs=3)
    assert Part("center", {"num_channels": 9}).build(heads, inputs=3, unused=1) == (3, 9)
    with pytest.raises(ConfigError, match="unknown head 'CENTRE'; did you mean 'CENTER'"):
        Part("CENTRE").build(heads)


def test_hash_changes_with_any_value_and_survives_a_round_trip() -> None:
    @dataclass(frozen=True)
    class Two:
        a: int = 1
        b: tuple[float, ...] = (0.5,)

    assert config_hash(Two()) == config_hash(Two(1, (0.5,)))
    assert config_hash(Two()) != config_hash(Two(1, (0.6,)))
    assert as_plain(Two()) == {"A": 1, "B": [0.5]}
