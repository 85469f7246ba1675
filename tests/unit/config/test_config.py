"""Configuration: inheritance, overrides, and errors that name file, line and key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lib.config import (
    Config,
    ConfigError,
    InertKey,
    Part,
    Tree,
    as_plain,
    config_hash,
    from_tree,
    read_tree,
    schema,
    take_inert,
)
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


def test_a_section_that_states_one_key_keeps_the_defaults_of_its_place() -> None:
    found = from_tree(schema.Config, Tree.of({"DATA": {"TEMPLATE": {"NUMBER": 2}}}, "here"))
    assert found.data.template == schema.Region(size=128, factor=2.0, number=2)
    assert found.data.search == schema.Config().data.search


def test_a_text_key_without_a_value_is_an_empty_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "MODEL: {PRETRAIN_FILE: mae.pth}\n")
    assert from_tree(Config, read_tree(path, ["MODEL.PRETRAIN_FILE="])).model.pretrain_file == ""
    with pytest.raises(ConfigError, match=r"TRAIN.OPTIMIZER must be ADAMW, ADAM or SGD, not ''"):
        from_tree(Config, read_tree(path, ["TRAIN.OPTIMIZER="]))


def test_unknown_key_names_file_line_and_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "TRAIN:\n  LR: 0.1\n  BATCHSIZE: 3\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:3: unknown key TRAIN\.BATCHSIZE; did you mean 'BATCH_SIZE'\?"):
        from_tree(Config, read_tree(path))


def test_wrong_type_names_file_line_and_key(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "TRAIN:\n  EPOCH: .inf\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:2: TRAIN\.EPOCH: expected a whole number, found inf"):
        from_tree(Config, read_tree(path))
    path = write(tmp_path, "a.yaml", "TRAIN:\n  EPOCH: many\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:2: TRAIN\.EPOCH: expected a whole number, found 'many'"):
        from_tree(Config, read_tree(path))


def test_an_unknown_key_in_a_list_is_named_with_its_place_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "TRAIN:\n  PHASES:\n    - {EPOCHS: 2}\n    - {EPOCH: 3}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:4: unknown key TRAIN\.PHASES\[1\]\.EPOCH; did you mean 'EPOCHS'"):
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


def test_mixins_lie_between_bases_and_own_keys(tmp_path: Path) -> None:
    (tmp_path / "_mixin_").mkdir()
    write(tmp_path, "_mixin_/quick.yaml", "TRAIN: {EPOCH: 2, LR: 0.5}\n")
    write(tmp_path, "_mixin_/wide.yaml", "TRAIN: {LR: 0.7}\nDATA: {SEARCH: {SIZE: 64}}\n")
    write(tmp_path, "base.yaml", "TRAIN: {EPOCH: 9, BATCH_SIZE: 3}\n")
    text = "BASE: base.yaml\nMIXIN: [quick, wide]\nDATA: {SEARCH: {FACTOR: 3}}\n"
    config = from_tree(Config, read_tree(write(tmp_path, "a.yaml", text)))
    assert (config.train.epoch, config.train.lr, config.train.batch_size) == (2, 0.7, 3)
    assert (config.data.search.size, config.data.search.factor) == (64, 3.0)
    with pytest.raises(ConfigError, match=r"b\.yaml:1: unknown MIXIN 'quik'; did you mean 'quick'\? \(known: .*wide\)"):
        read_tree(write(tmp_path, "b.yaml", "MIXIN: quik\n"))


def test_settings_by_benchmark_lie_over_the_test_section(tmp_path: Path) -> None:
    text = "TEST:\n  SEARCH_FACTOR: 4\n  BY_BENCHMARK:\n    LASOT:\n      SEARCH_FACTOR: 5\n"
    test = from_tree(Config, read_tree(write(tmp_path, "a.yaml", text))).test
    assert [test.for_benchmark(name).search_factor for name in (None, "lasot", "LaSOT", "otb")] == [4.0, 5.0, 5.0, 4.0]
    assert as_plain(test)["BY_BENCHMARK"] == {"LASOT": {"SEARCH_FACTOR": 5}}
    assert "BY_BENCHMARK" not in as_plain(Config().test)
    test = from_tree(Config, read_tree(write(tmp_path, "a.yaml", text + "      SEARCH_SIDE: 3\n"))).test
    with pytest.raises(ConfigError, match=r"a\.yaml:6: unknown key TEST\.BY_BENCHMARK\.LASOT\.SEARCH_SIDE; did you"):
        test.for_benchmark("lasot")


def test_keys_that_do_not_go_together_are_reported_with_the_place_of_the_guilty_one(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "DATA:\n  SEARCH: {SIZE: 96}\n  STD: [1, 1]\n")
    with pytest.raises(ConfigError, match=r"^.*a\.yaml:3: DATA\.STD needs 3 or 6 values"):
        from_tree(Config, read_tree(path))
    with pytest.raises(ConfigError, match=r"^override 'DATA\.MEAN=\[1, 0\]': DATA\.MEAN needs 3 or 6 values"):
        from_tree(Config, read_tree(path, ["DATA.MEAN=[1, 0]", "DATA.STD=[1, 1, 1]"]))


def test_keys_without_effect(tmp_path: Path) -> None:
    keys = {
        "MODEL.OLD": InertKey("gone", usual=(False,)),
        "MODEL.WINDOW": InertKey("there is one", usual=(True,), refused=True),
    }
    tree = read_tree(write(tmp_path, "a.yaml", "MODEL:\n  OLD: false\n  WINDOW: true\n"))
    assert take_inert(tree, keys) == []
    assert from_tree(Config, tree) == Config()
    tree = read_tree(write(tmp_path, "a.yaml", "MODEL:\n  OLD: true\n"))
    assert take_inert(tree, keys) == [f"{tmp_path / 'a.yaml'}:2: MODEL.OLD has no effect: gone"]
    with pytest.raises(ConfigError, match=r"a\.yaml:1: MODEL\.WINDOW 3 is not supported: there is one"):
        take_inert(read_tree(write(tmp_path, "a.yaml", "MODEL: {WINDOW: 3}\n")), keys)


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


BOMB = "A0: &a0 [x, x]\n" + "".join(f"A{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, r"a\.yaml:\d+: A\d+\[.*no configuration has more than 20000 values"),
        ("TRAIN: &t\n  LR: *t\n", r"a\.yaml:1: TRAIN\.LR: an alias \(\*\) stands inside of what it names"),
        ("[" * 1100, r"a\.yaml: .*nested more than 40 levels"),
        ("A: " + "{A: " * 50 + "1" + "}" * 50, r"a\.yaml:1: A\.A.*40 levels"),
        ("BASE: 3\n", r"a\.yaml:1: BASE: expected the name of a file or a list of names, found 3"),
        ("BASE: {A: 1}\n", r"a\.yaml:1: BASE: expected the name"),
        ("BASE: .\n", r"the configuration file cannot be read \(Is a directory\)"),
        ("TRAIN:\n  EPOCH: !!timestamp soon\n", r"a\.yaml:2: TRAIN\.EPOCH: expected a whole number, found 'soon'"),
        ("TRAIN:\n  EPOCH: 2024-01-01\n", r"a\.yaml:2: TRAIN\.EPOCH: expected a whole number, found '2024-01-01'"),
        ("# keys come later\n", r"a\.yaml: the configuration file is empty"),
        ("TRAIN:\n  LR: 1:30\n", r"a\.yaml:2: TRAIN\.LR: 1:30 is not written as a plain decimal number"),
        ("TRAIN:\n  EPOCH: 010\n", r"a\.yaml:2: TRAIN\.EPOCH: 010 is not written as a plain decimal number"),
        ("TRAIN:\n  EPOCH: 1_000\n", r"a\.yaml:2: TRAIN\.EPOCH: 1_000 is not"),
        ("TRAIN:\n  EPOCH: yes\n", r"a\.yaml:2: TRAIN\.EPOCH: expected a whole number, found true"),
        ("TRAIN:\n  FIX_BN:\n", r"a\.yaml:2: TRAIN\.FIX_BN: expected true or false, found nothing"),
        ("TRAIN:\n  FIX_BN: !!bool maybe\n", r"a\.yaml:2: TRAIN\.FIX_BN: 'maybe' is not of type bool"),
        ("TRAIN:\n  LR: !!float fast\n", r"a\.yaml:2: TRAIN\.LR: 'fast' is not of type float"),
        ("TRAIN:\n  LR: !!python/name:os.system 3\n", r"a\.yaml:2: TRAIN\.LR: values of type .*os\.system are not"),
        ("TRAIN: !mine {LR: 3}\n", r"a\.yaml:1: TRAIN: values of type !mine are not supported"),
        ("? [a, b]\n: 3\n", r"a\.yaml:1: a key must be a name"),
        ("TRAIN: [1\n", r"a\.yaml:2: this is not YAML \(.*\)"),
        ("TRAIN: *none\n", r"a\.yaml:1: this is not YAML \(found undefined alias 'none'\)"),
        ("A: 1\n---\nB: 2\n", r"a\.yaml:2: this is not YAML"),
        ("A: \0\n", r"a\.yaml: this is not YAML \(special characters are not allowed\)"),
        ("DATA:\n  MEAN: {R: 0.5}\n", r"a\.yaml:2: DATA\.MEAN: expected a list, found a mapping of keys$"),
        ("TRAIN:\n  EPOCH: [{A: 1}]\n", r"a\.yaml:2: TRAIN\.EPOCH: expected a whole number, found a list of 1$"),
        ("just words\n", r"a\.yaml: expected a mapping of keys at the top, found 'just words'"),
    ],
)
def test_malformed_files_are_one_sentence_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_tree(Config, read_tree(write(tmp_path, "a.yaml", text)))
    assert "\n" not in str(caught.value)


def test_text_of_another_encoding_and_overrides_that_are_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("A: ä\n".encode("utf-16"))
    with pytest.raises(ConfigError, match=r"a\.yaml: the configuration file cannot be read \(it is not UTF-8 text\)"):
        read_tree(tmp_path / "a.yaml")
    for value in ("[1", "!!bool maybe", "&a [*a]"):
        with pytest.raises(ConfigError, match=r"^override 'TRAIN\.LR=") as caught:
            read_tree(write(tmp_path, "b.yaml", "{}\n"), [f"TRAIN.LR={value}"])
        assert "\n" not in str(caught.value)


def test_published_figures_belong_to_their_file_alone_and_change_no_hash(tmp_path: Path) -> None:
    write(tmp_path, "plain.yaml", "TRAIN: {EPOCH: 3}\n")
    base = write(tmp_path, "base.yaml", "TRAIN: {EPOCH: 3}\nPUBLISHED: {LASOT: {AUC: 69.1}}\n")
    derived = write(tmp_path, "derived.yaml", "BASE: base.yaml\nPUBLISHED: {UAV: {AUC: 68}}\n")
    plain, own, other = (from_tree(Config, read_tree(tmp_path / n)) for n in ("plain.yaml", base.name, derived.name))
    assert own.published == {"LASOT": {"AUC": 69.1}}
    assert other.published == {"UAV": {"AUC": 68.0}}
    assert config_hash(plain) == config_hash(own) == config_hash(other)
    for value, message in (
        ("0.691e3", r"PUBLISHED\.LASOT\.AUC must lie in 0..100, not 691\.0"),
        ("high", r"PUBLISHED\.LASOT\.AUC: expected"),
    ):
        path = write(tmp_path, "a.yaml", f"PUBLISHED: {{LASOT: {{AUC: {value}}}}}\n")
        with pytest.raises(ConfigError, match=message):
            from_tree(Config, read_tree(path))
