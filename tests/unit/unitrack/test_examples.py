"""Examples, cells of the notebook and code of the page run as they stand; what is cited is what is there."""

from __future__ import annotations

import ast
import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

import unitrack
from lib.methods import load_experiment

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
SLOW = {"compare_trackers.py", "train_tracker.py", "own_data.py"}
FILES = [
    pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.name in SLOW else [])
    for p in sorted(EXAMPLES.glob("*.py"))
]


def lines_of_code(source: str) -> int:
    tree = ast.parse(source)
    lines = {n for node in ast.walk(tree) if isinstance(node, ast.stmt) for n in (node.lineno, node.end_lineno)}
    if ast.get_docstring(tree) is not None:
        lines -= set(range(1, (tree.body[0].end_lineno or 1) + 1))
    return len(lines)


@pytest.mark.parametrize("file", FILES)
def test_example(file: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of_code(file.read_text()) <= 10
    runpy.run_path(str(file), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_notebook(here: Path) -> None:
    notebook = json.loads((EXAMPLES / "unitrack.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    names: dict[str, object] = {"__name__": "__main__"}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, source in enumerate(cells, 1):
        exec(compile(source, f"cell {number}", "exec"), names)
    assert len(cells) >= 4
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")


@pytest.mark.slow
def test_code_of_the_page(here: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, source in enumerate(blocks, 1):
        exec(compile(source, f"docs/python.md, block {number}", "exec"), names)
    assert len(blocks) >= 5


def test_every_method_can_be_cited() -> None:
    keys = re.findall(r"^@\w+\{(\w+),", (ROOT / "docs/citing.md").read_text(encoding="utf-8"), re.MULTILINE)
    folders = [p for p in (ROOT / "experiments").iterdir() if not p.name.startswith("_")]
    methods = {load_experiment(p.name, min(p.glob("*.yaml")).stem).method.name.partition("_")[0] for p in folders}
    assert methods | {"slt"} <= {*keys}
    assert len(keys) == len(set(keys))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == unitrack.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
