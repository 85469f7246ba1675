"""Every example and every cell of the notebook runs as it stands, and is short."""

from __future__ import annotations

import ast
import json
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
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
