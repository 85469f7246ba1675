"""A folder, a zip archive and an LMDB must answer alike, in every process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lib.data import LmdbStore, Store, ZipStore, open_store, picture_names
from lib.files import visible_files
from tests.unit.data.trees import WRITERS, as_folder, as_lmdb, as_zip

TREE = {
    "a/1.txt": "one",
    "a/2.txt": "two",
    "a b/sub/x.bin": bytes(range(256)) * 50,
    "a-b/1.txt": "hyphen",
    "a0/1.txt": "behind the slash",
    "list.txt": "names",
    "ünï/1.txt": "names in UTF-8",
    "a/.hidden": "not shown",
    "z/z/z.txt": "deep",
}


@pytest.fixture(params=sorted(WRITERS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(WRITERS[request.param](TREE, tmp_path / "set"))


def test_files_are_read(store: Store) -> None:
    for key, value in TREE.items():
        assert store.read(key) == (value.encode() if isinstance(value, str) else value)


def test_listings_are_sorted_names_of_one_level(store: Store) -> None:
    assert store.listdir("") == ["a", "a b", "a-b", "a0", "list.txt", "z", "ünï"]
    assert store.listdir("a") == ["1.txt", "2.txt"]
    assert store.listdir("a b") == ["sub"]
    assert store.listdir("z") == ["z"]


def test_what_systems_leave_behind_is_not_listed(tmp_path: Path) -> None:
    left = ("._1.txt", ".DS_Store", "Thumbs.db", "@eaDir/1.txt/thumb.jpg", "lost+found/x", "$RECYCLE.BIN/x")
    tree = {**TREE, **dict.fromkeys(left, b"\0\5")}
    set_of = as_folder(tree, tmp_path / "set")
    for store in open_store(set_of), open_store(as_zip(tree, tmp_path / "zipped", top="LaSOT")):
        assert store.listdir("") == ["a", "a b", "a-b", "a0", "list.txt", "z", "ünï"]
    assert [p.name for p in visible_files(set_of, "*.txt")] == ["list.txt"]
    assert picture_names(["._2.jpg", "10.jpg", "2.jpg", "@eaDir"]) == ["2.jpg", "10.jpg"]


def test_existence_of_files_and_folders(store: Store) -> None:
    assert all(map(store.exists, ("a/1.txt", "a", "a b/sub", "z/z/z.txt", "list.txt")))
    assert not any(map(store.exists, ("b", "a/3.txt", "list", "a/1", "a b/su")))


def test_what_is_missing_is_named_in_full(store: Store) -> None:
    root = getattr(store, "root", None) or store.path  # type: ignore[attr-defined]
    for action in (store.read, store.listdir):
        with pytest.raises(FileNotFoundError) as error:
            action("nope/7.jpg")
        assert str(root) in str(error.value)
        assert "nope/7.jpg" in str(error.value)


def test_a_store_goes_through_pickle_after_use(store: Store) -> None:
    store.read("a/1.txt")
    assert pickle.loads(pickle.dumps(store)).read("a/2.txt") == b"two"


def read_all(store: Store) -> bool:
    return all(store.read(k) == (v.encode() if isinstance(v, str) else v) for k, v in list(TREE.items()) * 20)


def test_forked_workers_read_at_the_same_time(store: Store) -> None:
    assert read_all(store)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert all(pool.map(read_all, [store] * 6))
    assert read_all(store)


def test_children_of_a_fork_use_the_inherited_store(store: Store) -> None:
    """As a data loader's workers do: the object itself is inherited, not pickled."""
    assert read_all(store)
    children = [multiprocessing.get_context("fork").Process(target=exit_with, args=(store,)) for _ in range(3)]
    for child in children:
        child.start()
    assert read_all(store)
    for child in children:
        child.join(20)
        assert child.exitcode == 0


def exit_with(store: Store) -> None:
    os._exit(0 if read_all(store) else 1)


def test_threads_read_at_the_same_time(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read_all, [store] * 8))


def test_two_stores_of_one_lmdb(tmp_path: Path) -> None:
    path = as_lmdb(TREE, tmp_path / "set")
    assert LmdbStore(path).read("a/1.txt") == LmdbStore(path).read("a/1.txt") == b"one"


def test_an_lmdb_cut_short_is_an_error_and_no_bus_error(tmp_path: Path) -> None:
    data = as_lmdb({f"{i}.bin": b"x" * 5000 for i in range(20)}, tmp_path / "set") / "data.mdb"
    os.truncate(data, 20000)
    with pytest.raises(OSError, match=r"set/data\.mdb is cut short: 20000 bytes of at least \d+"):
        open_store(tmp_path / "set").read("19.bin")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_common_top_folder_of_a_zip_may_be_left_out(tmp_path: Path, compression: int) -> None:
    tree = {**TREE, "../__MACOSX/._x": "noise"}
    with zipfile.ZipFile(tmp_path / "set.zip", "w", compression) as archive:
        for key, value in tree.items():
            archive.writestr(f"LaSOT/{key}".replace("LaSOT/../", ""), value)
    store = open_store(tmp_path / "set.zip")
    assert store.read("a/1.txt") == store.read("LaSOT/a/1.txt") == b"one"
    assert store.listdir("") == ["a", "a b", "a-b", "a0", "list.txt", "z", "ünï"]
    assert store.listdir("a") == ["1.txt", "2.txt"]
    assert store.describe("a/1.txt") == f"{tmp_path / 'set.zip'}:LaSOT/a/1.txt"
    with pytest.raises(FileNotFoundError, match=r"set\.zip:LaSOT/a/9\.txt"):
        store.read("a/9.txt")


def test_a_damaged_zip_is_an_error_that_names_file_or_entry(tmp_path: Path) -> None:
    path = as_zip(TREE, tmp_path / "set", compression=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.index(bytes(range(256)))
    data[at + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"set\.zip:a b/sub/x\.bin: the archive is damaged"):
        open_store(path).read("a b/sub/x.bin")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"set\.zip: not a complete zip archive"):
        open_store(path).read("a/1.txt")


@pytest.mark.parametrize(("field", "at"), [("offset", 42), ("size", 20)])
def test_a_zip_entry_that_lies_outside_is_named(tmp_path: Path, field: str, at: int) -> None:
    path = as_zip(TREE, tmp_path / "set", compression=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\1\2")
    data[entry + at : entry + at + 4] = b"\xf0\xff\xff\x7f"
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"set\.zip:\S+: the archive is damaged here") as caught:
        read_all(open_store(path))
    assert "Errno" not in str(caught.value)


def test_a_zip_index_is_read_only_when_needed(tmp_path: Path) -> None:
    path = as_zip(TREE, tmp_path / "set")
    store = ZipStore(path)
    path.rename(tmp_path / "elsewhere.zip")
    with pytest.raises(FileNotFoundError):
        store.read("a/1.txt")


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_store(tmp_path / "nowhere")
    as_folder({"x.tar": "?"}, tmp_path)
    with pytest.raises(ValueError, match=r"x\.tar is neither"):
        open_store(tmp_path / "x.tar")


@pytest.mark.parametrize("key", ["../secret.txt", "a/../../secret.txt", "/etc/hostname"])
def test_a_key_does_not_lead_out_of_the_folder(tmp_path: Path, key: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.txt").write_text("x")
    store = open_store(tmp_path / "data")
    for use in (store.read, store.exists, store.listdir):
        with pytest.raises(OSError, match="leads out of"):
            use(key)
