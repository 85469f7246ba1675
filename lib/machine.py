"""Description of this machine, and choices between equivalent implementations by a speed test that is run once."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from lib.files import try_lock, write_text


def processor_name() -> str:
    """Maker and model of this machine's processor."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def cache_folder() -> Path:
    """Folder of what is kept for later processes, by the rule of XDG; all of it is made again when it is deleted.

    Nothing is kept for a user without a home, such as a bare number that a container is started with.
    """
    place = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.devnull if place.startswith("~") else place) / "unitrack"


def choices_file() -> Path:
    """File of the choices."""
    return cache_folder() / "ways.json"


def kept_choices() -> dict[str, Any]:
    """The choices that were made so far, by key; a file that cannot be read holds none."""
    try:
        known = json.loads(choices_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def keep_choice(key: str, choice: Any) -> None:
    """Add a choice of plain types; a folder that cannot be written is no failure."""
    with suppress(OSError):
        write_text(choices_file(), json.dumps({**kept_choices(), key: choice}, indent=1) + "\n")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait for other processes that make a choice by measuring; without a folder that has locks, nobody waits."""
    with ExitStack() as stack:
        with suppress(OSError):
            choices_file().parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(choices_file().with_suffix(".lock").open("a+b"))
            if not try_lock(file):
                print("waiting for another process, which times the ways of computing a network", file=sys.stderr)
                while not try_lock(file):
                    time.sleep(0.2)
        yield
