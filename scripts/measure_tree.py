"""Measure the size and structure of `lib` against the bounds of the project.

  python scripts/measure_tree.py             # everything, a minute on a CPU
  python scripts/measure_tree.py --static    # without the runs that list the files on a path

Static: code lines per package (no blanks, comments, docstrings; imports count), length of functions, public class names
that exist twice, typed functions, imports that go up a floor. From a trace of real runs (a small OSTrack on procedural
data): the files whose functions are entered by a tracker, a training step, an evaluation of one video, and a sample on
its way from disk to the loss. Exit code 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import ast
import io
import runpy
import statistics
import sys
import tempfile
import threading
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
CODE_LINES, MEDIAN, P90 = 15_500, 8, 45
FLOORS: tuple[tuple[str, ...], ...] = (
    ("config",),
    ("data", "viz"),
    ("models", "track"),
    ("objectives",),
    ("deploy",),
    ("methods",),
    ("bench", "train"),
)
"""Packages of `lib` from below; the modules next to them are the ground floor."""
NOT_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
    tokenize.ENDMARKER,
}  # fmt: skip
SMALL = (
    "DATA.TRAIN.SAMPLE_PER_EPOCH=4", "TRAIN.BATCH_SIZE=2", "TRAIN.EPOCH=1", "TRAIN.NUM_WORKER=0", "TEST.EPOCH=1",
    "TRAIN.SCHEDULER.WARMUP_EPOCHS=0", "MODEL.BACKBONE.EMBED_DIM=32", "MODEL.BACKBONE.NUM_HEADS=2",
)  # fmt: skip

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Static:
    """What the source says without being run.

    Attributes:
        lines, files: package -> code lines, number of files.
        lengths: lines of each function, from `def` to its end.
        untyped: functions with a parameter or a result that has no type.
        twice: public class name -> files that define it, where there are several.
        upward: imports that go up a floor.
    """

    lines: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    untyped: list[str] = field(default_factory=list)
    twice: dict[str, list[str]] = field(default_factory=dict)
    upward: list[str] = field(default_factory=list)

    @property
    def p90(self) -> int:
        """Length that nine functions of ten do not exceed."""
        return sorted(self.lengths)[int(0.9 * len(self.lengths))]


def measure(root: Path) -> Static:
    """Read every file of `root/lib`, and of `root/unitrack`, whose lines do not count."""
    found, classes = Static(), defaultdict(list)
    for path in sorted(p for top in ("lib", "unitrack") for p in (root / top).rglob("*.py")):
        source, (top, *parts) = path.read_text(encoding="utf-8"), path.relative_to(root).parts
        tree, place = ast.parse(source), path.relative_to(root).as_posix()
        if top == "lib":
            package = "/".join(parts[:-1][:2]) or "(modules)"
            found.lines[package] += code_lines(source, tree)
            found.files[package] += 1
        for node in ast.walk(tree):
            if isinstance(node, Function):
                found.lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
                if not is_typed(node):
                    found.untyped.append(f"{place}:{node.lineno} {node.name}")
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                here = floor_of(".".join((top, *parts)))
                found.upward += [f"{place}:{node.lineno} {m}" for m in imported(node) if floor_of(m) > here]
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(place)
    found.twice = {name: places for name, places in sorted(classes.items()) if len(places) > 1}
    return found


def code_lines(source: str, tree: ast.Module) -> int:
    """Lines with a token that is neither a comment nor part of a docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def is_typed(function: Function) -> bool:
    """True if the result and every parameter but self and cls have a type."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return function.returns is not None and all(a.annotation or a.arg in ("self", "cls") for a in named)


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Modules that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.module and not node.level:
        return [f"lib.{alias.name}" for alias in node.names] if node.module == "lib" else [node.module]
    return []


def floor_of(module: str) -> float:
    """Number of the floor; modules outside the project stand below all."""
    top, _, rest = module.partition(".")
    if top in ("tracking", "examples", "benchmarks"):
        return len(FLOORS) + 1
    if top == "unitrack":
        return len(FLOORS)
    if top == "synthetic":
        return 1.5  # above lib.data
    package = rest.partition(".")[0]
    return next((i for i, floor in enumerate(FLOORS) if package in floor), -1) if top == "lib" else -1


@dataclass
class Walk:
    """The files of a path, collected while certain functions run.

    Attributes:
        name: for the table.
        bound: number of files allowed.
        counted: files that count, as beginnings of paths.
        aside: files that do not, although they begin so.
        entries: (beginning of a path, function): the walk is open while such a function runs, or within `Trace.open`.
        files: what was found.
    """

    name: str
    bound: int
    counted: tuple[str, ...]
    aside: tuple[str, ...] = ()
    entries: tuple[tuple[str, str], ...] = ()
    files: set[str] = field(default_factory=set)
    depth: int = 0

    def begins_at(self, file: str, function: str) -> bool:
        """True if the walk is open while this function runs."""
        return any(function == name and file.startswith(place) for place, name in self.entries)


class Trace:
    """Adds the files whose functions are entered to the walks that are open. Imports do not count."""

    def __init__(self, root: Path, walks: Sequence[Walk]) -> None:
        self.root, self.walks = root, walks
        self.known: dict[str, str] = {}
        self.importing = 0

    def __enter__(self) -> Trace:
        threading.setprofile(self._event)
        sys.setprofile(self._event)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    @contextmanager
    def open(self, walk: Walk) -> Iterator[None]:
        """Keep one walk open for a block."""
        walk.depth += 1
        try:
            yield
        finally:
            walk.depth -= 1

    def _event(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "return"):
            return
        code, change = frame.f_code, 1 if event == "call" else -1
        if code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            self.importing += change
        file = self.known.get(code.co_filename)
        if file is None:
            path = Path(code.co_filename)
            inside = path.is_relative_to(self.root / "lib")
            file = self.known[code.co_filename] = path.relative_to(self.root).as_posix() if inside else ""
        if not file or self.importing > 0:
            return
        for walk in self.walks:
            if walk.begins_at(file, code.co_name):
                walk.depth = max(0, walk.depth + change)
            if walk.depth and event == "call" and file.startswith(walk.counted) and not file.startswith(walk.aside):
                walk.files.add(file)


def trace(root: Path, folder: Path) -> list[Walk]:
    """Train, load one batch, and evaluate one video, with results in `folder`."""
    tracker = Walk(
        "tracker", 4, ("lib/track/", "lib/methods/"),
        entries=tuple((place, name) for place in ("lib/track/", "lib/methods/") for name in ("init", "step")),
    )  # fmt: skip
    step = Walk(
        "training step", 4, ("lib/train/", "lib/objectives/", "lib/methods/"),
        entries=(("lib/train/step.py", "__call__"),),
    )  # fmt: skip
    evaluation = Walk(
        "evaluation", 6, ("lib/bench/",), ("lib/bench/metrics/", "lib/bench/benchmarks"),
        entries=(("lib/bench/", "run_evaluation"),),
    )  # fmt: skip
    sample = Walk("sample to loss", 20, ("lib/",), ("lib/models/",))
    data = ("--data_dir", str(folder / "data"), "--save_dir", str(folder))
    target = folder / "data" / "synthetic"
    make = ("--sequences", "2", "--frames", "24", "--width", "160", "--height", "120", "--workers", "1")
    for split in ("train", "test"):
        run_command(root, "tracking/make_synthetic_data.py", "--output", str(target / split), "--split", split, *make)
    with Trace(root, [step]):
        run_command(
            root, "lib/train/run_training.py", "--script", "ostrack", "--config", "synthetic_demo", *data,
            *(text for value in SMALL for text in ("--set", value)),
        )  # fmt: skip
    with Trace(root, [tracker, evaluation]):
        run_command(
            root, "tracking/test.py", "ostrack", "synthetic_demo", "--dataset", "synthetic", "--sequence", "0", *data,
            "--set", *SMALL,
        )  # fmt: skip
    load_one_batch(root, folder, sample)
    return [tracker, step, evaluation, sample]


def run_command(root: Path, script: str, *arguments: str) -> None:
    """Run a command of the project in this process, without its output."""
    before = sys.argv
    sys.argv = [script, *arguments]
    try:
        with redirect_stdout(io.StringIO()):
            runpy.run_path(str(root / script), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{script} {' '.join(arguments)}: exit code {end.code}") from None
    finally:
        sys.argv = before


def load_one_batch(root: Path, folder: Path, walk: Walk) -> None:
    """From asking the loader for a batch to its loss."""
    from lib.data import normalise_batch
    from lib.methods import load_experiment, resolve
    from lib.objectives import Progress
    from lib.paths import load_paths

    paths = load_paths(data_dir=folder / "data", save_dir=folder)
    recipe = resolve(load_experiment("ostrack", "synthetic_demo", SMALL), paths)
    with Trace(root, [walk]) as tracing, tracing.open(walk):
        batch = next(recipe.train_loader.epoch(1))
        losses = recipe.objective(recipe.network, normalise_batch(batch, recipe.normalise), Progress(1, 1))
    if not losses.total.isfinite():
        raise RuntimeError("the loss of the traced batch is not finite")


def report(found: Static, walks: Sequence[Walk]) -> list[str]:
    """Print everything; returns what exceeds its bound."""
    print(f"{'package':<24}{'code lines':>12}{'files':>8}")
    for package, lines in sorted(found.lines.items()):
        print(f"{package:<24}{lines:>12}{found.files[package]:>8}")
    total, median = found.lines.total(), statistics.median(found.lengths)
    print(f"{'lib':<24}{total:>12}{found.files.total():>8}")
    share = 100 * (1 - len(found.untyped) / len(found.lengths))
    print(f"\n{len(found.lengths)} functions: median {median:g} lines, p90 {found.p90}; {share:.1f} % typed")
    checks = [
        (total > CODE_LINES, f"code lines {total} (at most {CODE_LINES})"),
        (median < MEDIAN, f"median function {median:g} lines (at least {MEDIAN})"),
        (found.p90 > P90, f"p90 of functions {found.p90} lines (at most {P90})"),
        *((True, f"untyped: {name}") for name in found.untyped),
        *((True, f"class {name} in {', '.join(places)}") for name, places in found.twice.items()),
        *((True, f"upward import: {line}") for line in found.upward),
    ]
    for walk in walks:
        print(f"\n{walk.name}: {len(walk.files)} files (at most {walk.bound})")
        print("\n".join(f"  {file}" for file in sorted(walk.files)))
        checks.append((not walk.files, f"{walk.name}: no file was entered; do its functions have other names now?"))
        checks.append((len(walk.files) > walk.bound, f"{walk.name}: {len(walk.files)} files (at most {walk.bound})"))
    return [text for exceeded, text in checks if exceeded]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--static", action="store_true", help="without running anything")
    options = parser.parse_args(arguments)
    sys.path[:0] = [str(ROOT), str(ROOT / "tracking")]
    walks: list[Walk] = []
    if not options.static:
        with tempfile.TemporaryDirectory() as folder:
            walks = trace(ROOT, Path(folder))
    exceeded = report(measure(ROOT), walks)
    print("\n" + ("\n".join(f"exceeded: {text}" for text in exceeded) or "all bounds are kept"))
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
