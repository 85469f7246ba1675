"""The measuring script on a small tree with known faults, and the rules that this tree keeps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PLOT = '''"""A module."""

from lib.track.state import State as S  # a comment


def area(w: float, h: float) -> float:
    """Product.

    Three lines.
    """
    return w * h


class State:
    text = """not
    a docstring"""

    def name(self, short, *more: str) -> str:
        return ""
'''
STATE = """class State:
    def grow(self) -> int:
        from lib.data import load
        return load()
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_tree", ROOT / "scripts" / "measure_tree.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_tree"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {
        "lib/paths.py": "import os\n",
        "lib/viz/plot.py": PLOT,
        "lib/track/state.py": STATE,
        "lib/data/__init__.py": "def load() -> int:\n    return 1\n",
        "lib/bench/api.py": "import unitrack\n",
        "unitrack/__init__.py": "from lib.bench import api\nfrom tracking import test\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_faults_of_a_small_tree(script: ModuleType, tree: Path) -> None:
    found = script.measure(tree)
    assert found.lines == {"(modules)": 1, "viz": 8, "track": 4, "data": 2, "bench": 1}
    assert found.files.total() == 5
    assert sorted(found.lengths) == [2, 2, 3, 6]
    assert found.untyped == ["lib/viz/plot.py:18 name"]
    assert found.twice == {"State": ["lib/track/state.py", "lib/viz/plot.py"]}
    assert found.upward == [
        "lib/bench/api.py:1 unitrack",
        "lib/viz/plot.py:3 lib.track.state",
        "unitrack/__init__.py:2 tracking",
    ]
    exceeded = script.report(found, [script.Walk("tracker", 4, ("lib/",))])
    assert any("median function 2.5 lines" in text for text in exceeded)
    assert any("tracker: no file was entered" in text for text in exceeded)


def test_a_trace_lists_files_entered_while_a_function_runs(script: ModuleType, tree: Path) -> None:
    def load(file: str) -> dict[str, object]:
        scope: dict[str, object] = {"__name__": "lib.x"}
        path = tree / file
        exec(compile(path.read_text(), str(path), "exec"), scope)
        return scope

    (tree / "lib/viz/area.py").write_text("def area(w, h) -> float:\n    return w * h\n")
    (tree / "lib/track/run.py").write_text("def init(f) -> int:\n    return f()\n\ndef other() -> None: ...\n")
    whole = script.Walk("whole", 9, ("lib/",), ("lib/viz/",), entries=(("lib/track/", "init"),))
    block = script.Walk("block", 9, ("lib/data/",))
    with script.Trace(tree, [whole, block]) as trace:
        run, data, plot = load("lib/track/run.py"), load("lib/data/__init__.py"), load("lib/viz/area.py")
        data["load"]()
        run["other"]()
        assert whole.files == set()
        run["init"](lambda: data["load"]() + plot["area"](1, 2))
        data["load"]()
        with trace.open(block):
            data["load"]()
    assert whole.files == {"lib/track/run.py", "lib/data/__init__.py"}
    assert block.files == {"lib/data/__init__.py"}
    assert whole.depth == block.depth == 0


@pytest.mark.slow
def test_this_tree_is_typed_and_imports_nothing_from_above(script: ModuleType) -> None:
    found = script.measure(ROOT)
    assert found.untyped == []
    assert found.upward == []
    assert found.lines.total() > 1000
