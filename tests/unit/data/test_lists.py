"""The sequence lists are complete, free of doubles and consistent with each other."""

from __future__ import annotations

import pytest

from lib.data.lists import load_list
from lib.registry import UnknownNameError

SIZES = {
    "lasot_train": 1120,
    "lasot_test": 280,
    "lasot_extension_subset_test": 150,
    "got10k_train_full_split": 9335,
    "got10k_train_split": 7934,
    "got10k_val_split": 1401,
    "got10k_vot_train_split": 7086,
    "got10k_vot_val_split": 1249,
    "got10k_vot_exclude": 1000,
    "got10k_vot_train_corrected_split": 7081,
    "got10k_vot_val_corrected_split": 1254,
    "rgbt210_sequences": 210,
    "gtot_sequences": 50,
    "vasttrack_test": 3500,
    "otb100_sequences": 100,
    "uav123_sequences": 123,
    "nfs_sequences": 100,
}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_size_and_no_doubles(name: str, size: int) -> None:
    rows = load_list(name)
    assert len(rows) == size
    assert len({row["name"] if isinstance(row, dict) else row for row in rows}) == size


def test_lasot_protocol_two_is_a_partition() -> None:
    train, test = set(load_list("lasot_train")), set(load_list("lasot_test"))
    assert not train & test
    classes = {name.rsplit("-", 1)[0] for name in train}
    assert len(classes) == 70
    assert train | test == {f"{name}-{number}" for name in classes for number in range(1, 21)}


def test_got10k_splits_fit_together() -> None:
    train, val = load_list("got10k_train_split"), load_list("got10k_val_split")
    assert sorted(train + val) == list(range(9335))
    forbidden = {int(name.rsplit("_", 1)[1]) for name in load_list("got10k_vot_exclude")}
    for part, whole in (("train", train), ("val", val)):
        # As published: forbidden video numbers taken for positions. Corrected: position = number - 1.
        assert load_list(f"got10k_vot_{part}_split") == [i for i in whole if i not in forbidden]
        assert load_list(f"got10k_vot_{part}_corrected_split") == [i for i in whole if i + 1 not in forbidden]
    published = load_list("got10k_vot_train_split")
    assert sum(i + 1 in forbidden for i in published) == 765


def test_rgbx_splits() -> None:
    lasher = load_list("lasher_splits")
    assert not set(lasher["train_official_979"]) & set(lasher["test_official_245"])
    assert set(lasher["train_882_cstrack"]) - set(lasher["train_881_sdstrack"]) == {"cameraman_1202"}
    assert set(lasher["train_882_cstrack"]) | set(lasher["val_97"]) == set(lasher["train_official_979"])
    depth = load_list("depthtrack_splits")
    assert [len(depth[k]) for k in ("train_146_used", "val_used", "test_50")] == [146, 6, 50]
    assert not set(depth["test_50"]) & set(depth["train_146_used"] + depth["val_used"])
    event = load_list("visevent_splits")
    assert len(event["test_320"]) == 320
    assert not set(event["train_all_list"]) & set(event["test_320"])


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("lasher_test_attributes", load_list("lasher_splits")["test_official_245"]),
        ("visevent_test_attributes", load_list("visevent_splits")["test_320"]),
        ("rgbt234_attributes", None),
    ],
)
def test_attribute_tables(table: str, names: list[str] | None) -> None:
    content = load_list(table)
    assert set(content["sequences"]) == set(names) if names else len(content["sequences"]) == 234
    for row in content["sequences"].values():
        assert len(row) == len(content["order"])
        assert set(row) <= {0, 1}


def test_unknown_list_names_the_nearest() -> None:
    assert load_list("gtot_sequences.json") == load_list("gtot_sequences")
    with pytest.raises(UnknownNameError, match=r"no sequence list 'lasot_tets'; did you mean 'lasot_test'\? \(known: "):
        load_list("lasot_tets")
