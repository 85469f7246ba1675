"""Folder listings in a sorted list of keys, and the order of picture names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lib.files import is_hidden

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_DIGITS = re.compile(r"(\d+)")


def children_of(
    folder: str, first_from: Callable[[str], str | None], following: Callable[[str], str | None]
) -> list[str]:
    """Names directly below a folder, in a sorted range of keys. A sub-folder costs one look-up, however large.

    Args:
        folder: The folder; "" for the root.
        first_from: Returns the smallest key that is not below the given text; None at the end.
        following: Returns the key after the given one; None at the end.

    Returns:
        Sorted names of files and sub-folders, without hidden ones.
    """
    prefix = f"{folder}/" if folder else ""
    found: set[str] = set()
    key = first_from(prefix)
    while key is not None and key.startswith(prefix):
        name, slash, _ = key[len(prefix) :].partition("/")
        if name and not is_hidden(name):
            found.add(name)
        key = first_from(f"{prefix}{name}0") if slash else following(key)  # '0' is the character after '/'
    return sorted(found)


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names by the numbers in them.

    Args:
        names: File or folder names.

    Returns:
        The names, v2 before v10, and v999 before v1000.
    """
    names = list(names)
    if len({len(name) for name in names}) <= 1:
        return sorted(names)

    def by_numbers(name: str) -> tuple[list[tuple[int, str]], str]:
        return [(int(p), "") if p.isdecimal() else (-1, p) for p in _DIGITS.split(name)], name

    return sorted(names, key=by_numbers)


def picture_names(names: Iterable[str]) -> list[str]:
    """The pictures among the names of a folder.

    Args:
        names: File names.

    Returns:
        Those with the suffix of a picture format, in natural order, without hidden ones.
    """
    return natural_order(name for name in names if name.lower().endswith(PICTURE_SUFFIXES) and not is_hidden(name))


def folder_names(names: Iterable[str]) -> list[str]:
    """The names that can be sequence folders.

    Args:
        names: Names of files and folders.

    Returns:
        Names without the suffix of a text, archive, picture or database file, in the given order.
    """
    files = (*PICTURE_SUFFIXES, ".txt", ".json", ".csv", ".md", ".zip", ".mdb", ".ini", ".yaml", ".yml", ".mat", ".py")
    return [name for name in names if not name.lower().endswith(files)]


def check_name(name: str) -> str:
    """Make sure that a video's name is a name: paths of pictures and of results are made of it.

    Args:
        name: A name, or a place such as `test_ST_001/animal_001`.

    Returns:
        The same name.

    Raises:
        ValueError: It is empty, leads out of its folder, or has a backslash or a control character.
    """
    if not name.isprintable() or "\\" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
        rule = "a name has no '..', no backslash, no '/' at its ends, no characters that cannot be seen"
        raise ValueError(f"{name!r} is not a name of a video ({rule})")
    return name


def number_in(name: str) -> int | None:
    """The last number of a file name's stem (`frame0007.bmp`: 7).

    Args:
        name: The file name.

    Returns:
        The number; None if there is none.
    """
    found = _DIGITS.findall(name.rpartition(".")[0] or name)
    return int(found[-1]) if found else None
