"""The catalogue of data sets: every row is complete, tables in the documentation follow it, sets come from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib.bench import Result
from lib.bench.benchmarks import BENCHMARKS, get_benchmark
from lib.bench.metrics import evaluate
from lib.data import build_lmdb, check_part, choose_parts, plan_lmdb
from lib.data.datasets import (
    CATALOGUE,
    TRAINING_NAMES,
    DatasetSpec,
    Subset,
    build_dataset,
    reader_class,
    register_dataset,
)
from lib.data.datasets.build import listed_names
from lib.paths import load_paths
from tests.unit.data.trees import Tree, as_folder, picture

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def registries() -> Iterator[None]:
    """What a test registers is gone afterwards."""
    kept = [(r, dict(r._parts), dict(r._names)) for r in (CATALOGUE, TRAINING_NAMES, BENCHMARKS)]
    yield
    for registry, parts, names in kept:
        registry._parts, registry._names = parts, names


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=lambda spec: spec.key)
def test_every_row_has_a_reader_and_lists_that_fit_its_counts(spec: DatasetSpec) -> None:
    assert callable(reader_class(spec))
    assert len({s.label for s in spec.subsets if s.label}) == sum(bool(s.label) for s in spec.subsets)
    for subset in spec.subsets:
        names = listed_names(subset.names)
        if names is not None and subset.count is not None:
            assert len(names) == len(set(names)) == subset.count, subset.label
        for choice in subset.choices.values():
            assert listed_names((choice,))


def test_a_key_or_a_yaml_name_is_given_once(registries: None) -> None:
    for spec in (
        DatasetSpec("other", "", "folders:LasotDataset", (), ("other",), aliases=("LaSOT",)),
        DatasetSpec("another", "", "folders:LasotDataset", (Subset(datasets_name="lasot"),), ("other",)),
    ):
        with pytest.raises(ValueError, match="registered twice"):
            register_dataset(spec)


@pytest.mark.slow
def test_the_library_does_not_import_the_renderer_before_it_is_needed() -> None:
    code = (
        "import sys, lib.data, lib.bench.benchmarks, lib.methods; assert 'synthetic' not in sys.modules\n"
        "from lib.data.datasets import build_dataset\n"
        "assert len(build_dataset('SYNTHETIC:rgbt,sequences=3', None)) == 3; assert 'synthetic' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def names_table() -> list[str]:
    """Rows of the table of names in docs/data_layouts.md."""
    keys = {b.root: [] for b in map(get_benchmark, BENCHMARKS)}
    for name in BENCHMARKS:
        keys[get_benchmark(name).root].append(get_benchmark(name).name)
    rows = []
    for spec in CATALOGUE.values():
        trained = [s.datasets_name for s in spec.subsets if s.datasets_name]
        tested = sorted(dict.fromkeys(keys.get(spec.key, [])))
        if trained or tested:
            cells = (", ".join(f"`{name}`" for name in names) or "-" for names in (trained, tested))
            rows.append(f"| `{spec.key}` | {' | '.join(cells)} |")
    return rows


def test_the_table_of_names_follows_the_catalogue() -> None:
    text = (ROOT / "docs/data_layouts.md").read_text(encoding="utf-8")
    table = text.partition("| key | `DATASETS_NAME` | `--dataset` |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == names_table(), "\n" + "\n".join(names_table())


def toy_tree(names: list[str], frames: int = 4) -> Tree:
    tree: Tree = {}
    for name in names:
        tree[f"{name}/boxes.txt"] = "1,2,10,8\n" * frames
        tree[f"{name}/hidden.txt"] = "0\n1\n" + "0\n" * (frames - 2)
        tree |= {f"{name}/frames/{i + 1:04d}.png": picture(i) for i in range(frames)}
    return tree


def test_a_set_and_a_benchmark_from_outside(tmp_path: Path, registries: None) -> None:
    """The code of docs/adding_a_dataset.md, with all that follows from its rows."""
    text = (ROOT / "docs/adding_a_dataset.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "docs/adding_a_dataset.md", "exec"), {"__name__": "outside"})
    as_folder(toy_tree(["a", "b", "c"]), tmp_path / "toyset/train")
    as_folder(toy_tree(["x", "y", "z"]) | {"list.txt": "y\nx\n"}, tmp_path / "toyset/test")
    paths = load_paths(data_dir=tmp_path)

    dataset = build_dataset("toyset_TRAIN", paths)
    assert [dataset[i].name for i in range(len(dataset))] == ["a", "b", "c"]
    assert dataset[0].visible.tolist() == [True, False, True, True]
    for part in choose_parts(["toyset", "toyset_test"]):
        result = check_part(part, paths, "full")
        assert not result.is_wrong(), result
    (tmp_path / "toyset/train/b/frames/0002.png").unlink()
    assert check_part(choose_parts(["toyset"])[0], paths).is_wrong()
    (plan,) = plan_lmdb("toyset", tmp_path / "toyset/train", paths.candidates("toyset_lmdb")[0])
    build_lmdb(plan)
    assert len(build_dataset("TOYSET_train", paths, lmdb=True)) == 3

    benchmark = get_benchmark("toyset")
    sequences = benchmark.sequences(paths)
    assert [s.name for s in sequences] == ["y", "x"]
    perfect = [s.sequence_result([Result(s.name, s.boxes_xywh)]) for s in sequences]
    found = evaluate(benchmark.metric, perfect).headline["auc"]
    assert found == pytest.approx(100 * 3 / 4 * 20 / 21), "a quarter of the frames is labelled absent"
    (tmp_path / "toyset/test/x/hidden.txt").unlink()
    with pytest.raises(ValueError, match=r"x: no complete hidden\.txt in .*test/x"):
        benchmark.sequences(paths)
