"""README.md and the pages: what they link to, name and tell to type is there."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pkgutil
import re
import shlex
import typing
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib.bench.benchmarks import get_benchmark
from lib.methods import METHODS, load_experiment
from lib.ranges import hints_of
from lib.train import add_training_options
from tests.support.commands import import_command
from tracking import _rgbx
from tracking._options import CommandParser

ROOT = Path(__file__).parents[2]
PLACES = "README.md CONTRIBUTING.md data/README.md pretrained/README.md lib/data/lists/README.md"
PAGES = [*(ROOT / name for name in PLACES.split()), *sorted((ROOT / "docs").glob("*.md"))]
PAGE = pytest.mark.parametrize("page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in PAGES])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FOLDERS = "lib tracking synthetic unitrack examples scripts benchmarks experiments tests RGBT_workspace RGBE_workspace"
OTHERS = {
    "--logdir", "--shm-size", "--nocache", "WANDB_MODE", "VOT_PERSISTENT_CACHE", "votrgbd2021", "OTB2015", "in1k",
    "par_crop", "my_method", "ADDRESS", "RUN_A", "RUN_B",
}  # fmt: skip
"""Names of other programs, and words that stand for the reader's own."""


def blocks(page: Path, *languages: str) -> list[str]:
    return [code for language, code in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def prose(page: Path) -> str:
    """A page without its blocks of code, and without the columns that name what other repositories have."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    tables = re.findall(r"^\| there \| here \|\n(?:\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        text = text.replace(table, re.sub(r"^\|.*?(?<!\\)\| ", "| ", table, flags=re.MULTILINE))
    return text


def quoted(page: Path) -> list[str]:
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose(page))]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ +(.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        file, _, anchor = target.partition("#")
        if not file.startswith("http"):
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


@PAGE
def test_files_are_there(page: Path) -> None:
    for path in re.findall(rf"(?<![\w./-])(?:{'|'.join([*FOLDERS.split(), 'docs'])})/[\w./-]+", " ".join(quoted(page))):
        assert (ROOT / path).exists() or re.search("my_method|/results/|^synthetic/photo", path), path


@cache
def words_of_the_tree() -> frozenset[str]:
    """Words of code and configurations and of the names of their files; keys in capitals too."""
    found: set[str] = set()
    here = Path(__file__)
    for file in (f for folder in FOLDERS.split() for f in (ROOT / folder).rglob("*") if f.is_file() and f != here):
        text = str(file.relative_to(ROOT))
        if file.suffix in {".py", ".yaml", ".sh", ".html", ".json", ".txt"}:
            text += "\n" + file.read_text(encoding="utf-8", errors="ignore")
        found.update(re.findall(r"[\w-]+", text), re.findall(r"\w+", text))
    return frozenset(found | {word.upper() for word in found})


@PAGE
def test_names_occur_in_the_tree(page: Path) -> None:
    code = " ".join(blocks(page, "python", "yaml")).replace("my_", "")
    names = [word for text in quoted(page) if not re.search(r"[<*]", text) for word in re.findall(r"[\w-]+", text)]
    names += re.findall(r"\b[A-Z][A-Z_]+\b(?=:)|(?<=import )\w+", code)
    odd = {
        n for n in names if re.search(r"[a-zA-Z]{2}", n) and not re.match(r"_|.*[_-]$|.*_(\d+|lmdb|pseudo|tuned)$", n)
    }
    made = re.compile(
        r"TRACKING_\w+_DIR|TRACKING_(CHECKPOINT|CONFIG|SCRIPT)|VOT20\d\d_workspace|\w+_drop-aux-\d|\w+_ep\d+|next_\w+"
    )
    assert sorted(n for n in odd - words_of_the_tree() - OTHERS if not made.fullmatch(n)) == []


def sections(hint: Any) -> Iterator[Any]:
    """The sections that a field may hold, those of lists included."""
    if dataclasses.is_dataclass(hint):
        yield hint
    for option in typing.get_args(hint):
        yield from sections(option)


def is_key(section: Any, names: list[str]) -> bool:
    fields = {f.metadata.get("key", f.name.upper()): f.name for f in dataclasses.fields(section)}
    if section.__name__ in ("Part", "Tree") or not names:
        return True
    if names[0] not in fields:
        return False
    hint = hints_of(section)[fields[names[0]]]
    return len(names) == 1 or any(is_key(s, names[1:]) for s in sections(hint)) or hint is dict


@PAGE
def test_keys_are_keys_of_a_method(page: Path) -> None:
    load_experiment("ostrack", "synthetic_small")  # registers all methods
    configs = {method.config for method in METHODS.values()}
    tops = "|".join(sorted({f.name.upper() for config in configs for f in dataclasses.fields(config)}))
    for key in re.findall(rf"(?<![\w.])(?:{tops})(?:\.[A-Z][A-Z_]+)+(?![\w<])", FENCE.sub("", prose(page))):
        spelt = key in ("TRAIN.KEY", "MODEL.PRETRAINED_PATH")  # the reader's own; a published spelling
        assert spelt or any(is_key(config, key.split(".")) for config in configs), key


DESCRIBED = {
    "cstrack": "cstrack_s2 cstrack_s2",
    "distillation": "loretrack loretrack_128",
    "gdstrack": "translate_track LasHeR; translate_template common_pretrain",
    "masks": "ostrack synthetic_small MASK={} INIT={CHECKPOINT:x}",
    "online_filter": "ostrack synthetic_small ONLINE={}",
    "pseudo_labels": "translate_track LasHeR",
    "sequence_level": "slt_transt slt_transt",
    "siamattn": "siamattn siamattn",
    "siamrpnpp": "siamrpnpp siamrpnpp",
    "transt": "transt transt",
}
"""Page -> scripts, configurations and overrides whose values its tables and YAML blocks state."""
CHOSEN = {"SLT.START", "SLT.CLIPS_PER_PASS", "SLT.POLICY", "TRAIN.PHASES"}
"""Examples that differ from them, and what is said in words."""


def stated(page: Path) -> Iterator[tuple[str, Any]]:
    """Keys of a page's tables with a column of values, and of its YAML blocks, with the values."""
    text = page.read_text(encoding="utf-8")
    for table in re.findall(r"^\| key[^|]* \| [^|]+ \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            names, values = re.findall(r"`([^`]+)`", row.split("|")[1]), row.split("|")[2].strip().split(", ")
            section = names[0].rpartition(".")[0] if names and "." in names[0] else "DATA"
            if len(names) == len(values):
                for name, value in zip(names, values, strict=True):
                    if re.fullmatch(r"`?[\w.]+`?", value):
                        yield name if "." in name else f"{section}.{name}", yaml.safe_load(value.strip("`"))
    for block in blocks(page, "yaml"):
        for section, keys in yaml.safe_load(block).items():
            if section in ("KD", "ONLINE", "SLT"):
                yield from ((f"{section}.{key}", value) for key, value in keys.items())


@pytest.mark.parametrize("name", DESCRIBED)
def test_stated_values_are_those_of_the_configuration(name: str) -> None:
    plain = []
    for words in DESCRIBED[name].split("; "):
        script, config, *overrides = words.split()
        plain.append(load_experiment(script, config, [o.replace(":", ": ") for o in overrides]).plain)
    checked = [(key, value) for key, value in stated(ROOT / f"docs/{name}.md") if key not in CHOSEN]
    assert len(checked) >= 3
    for key, value in checked:
        found = []
        for held in plain:
            for part in key.split("."):
                held = held.get(part, {})
            found.append(held.get("TYPE") if isinstance(held, dict) else held)
        assert value in found, key


@PAGE
def test_code_imports_what_is_there(page: Path) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("lib", "unitrack", "synthetic")):
                module = importlib.import_module(str(node.module))
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []


@PAGE
def test_dotted_names_are_there(page: Path) -> None:
    for name in re.findall(r"(?<![\w.])(?:lib|unitrack|synthetic)(?:\.[A-Za-z_]\w*)+(?![\w/])", " ".join(quoted(page))):
        if not name.endswith((".py", ".yaml", ".ipynb")):
            assert pkgutil.resolve_name(name) is not None


def commands(page: Path) -> Iterator[tuple[str, list[str], bool]]:
    """File and arguments of the project's commands; True for those that stand whole in a block of code."""
    lines = "".join(blocks(page, "", "bash")).replace("\\\n", " ").splitlines()
    lines = [line for line in lines if re.match(r"\S*=?\S* ?(python|torchrun|cd) ", line)]
    for text in [*lines, *quoted(page)]:
        for part in text.split(" && "):
            words = shlex.split(part, comments=True) if ".py " in part else []
            at = next((i for i, w in enumerate(words) if re.fullmatch(COMMAND, w)), len(words))
            if words[at + 1 :] and (ROOT / words[at]).parts[-2] not in ("tools", "pytracking"):
                yield words[at].removeprefix("./"), words[at + 1 :], text in lines and "..." not in part


def parsed(file: str, arguments: list[str]) -> Any:
    if file.startswith("RGB"):
        return _rgbx.parse(_rgbx.RGBT if "RGBT" in file else _rgbx.RGBE, ROOT / Path(file).parent, arguments)
    if file == "lib/train/run_training.py":
        parser = CommandParser("")
        add_training_options(parser)
        return parser.parse_args(arguments)
    command = import_command(Path(file).stem)
    if hasattr(command, "submission_command"):
        return command.submission_command("got10k_test", "", arguments)
    return command.parser().parse_args(arguments) if hasattr(command, "parser") else command.parse(arguments)


COMMAND = r"(\./)?(tracking|RGB\w|lib/train|benchmarks|scripts)\S*\.py"
MADE = ("dinov2_252", "my_config", "toyset", "own", "CONFIG")
"""Configurations and benchmarks that the reader makes."""


def check_experiment(options: Any) -> None:
    """Read the configuration that a command line names, with its --set."""
    script = getattr(options, "script", None) or getattr(options, "script_name", None)
    names = getattr(options, "config", None) or getattr(options, "yaml_name", None) or []
    for name in [names] if isinstance(names, str) else names:
        if script and name not in MADE:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load_experiment(script, name.removesuffix("_reacquire"), getattr(options, "overrides", []))


@PAGE
def test_commands_are_taken(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options, configurations, keys behind --set and benchmarks of whole command lines; of others, the options."""
    for file, arguments, whole in commands(page):
        line = shlex.join([file, *arguments])
        if file.startswith(("benchmarks", "scripts")) or not whole:
            source = (ROOT / file).read_text(encoding="utf-8")
            if not file.startswith(("benchmarks", "scripts")):
                with pytest.raises(SystemExit):
                    parsed(file, ["--help"])
                source = capsys.readouterr().out
            assert [w for w in arguments if w.startswith("--") and w.split("=")[0] not in source] == [], line
            continue
        try:
            options = parsed(file, arguments)
        except SystemExit:
            pytest.fail(f"{line}: {capsys.readouterr().err[-500:]}")
        assert not capsys.readouterr().err, line
        if "path/to" not in line:
            check_experiment(options)
        if Path(file).stem in ("test", "analysis_results", "tune", "robustness", "calibrate", "vis_results"):
            for name in [options.dataset] if isinstance(options.dataset, str) else options.dataset or []:
                assert name in MADE or name.startswith("FOLDER:") or get_benchmark(name), line
