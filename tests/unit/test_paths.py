"""Where folders come from, and what a user reads when one is wrong."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from lib.catalogue import CATALOGUE
from lib.paths import (
    MissingPathError,
    PathsError,
    load_paths,
    parse_overrides,
    repository_root,
)
from tests.support.commands import import_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def local_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty settings file in force, and no TRACKING_*_DIR variable."""
    for name in list(os.environ):
        if name.startswith("TRACKING_"):
            monkeypatch.delenv(name)
    path = tmp_path / "place" / "local.yaml"
    path.parent.mkdir()
    path.write_text("")
    monkeypatch.setenv("TRACKING_LOCAL_YAML", str(path))
    return path


def test_defaults_lie_next_to_the_repository(local_yaml: Path) -> None:
    paths = load_paths()
    assert repository_root() == ROOT
    assert (paths.data_dir, paths.save_dir, paths.pretrained) == (ROOT / "data", ROOT / "output", ROOT / "pretrained")
    assert paths.candidates("got10k")[0] == ROOT / "data" / "got10k" / "train"


def test_the_home_of_an_unknown_user_is_a_folder_like_any_other(
    local_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_paths(data_dir="~no-such-user/sets").data_dir == tmp_path / "~no-such-user/sets"


def test_a_name_that_is_not_utf8_is_refused(local_yaml: Path) -> None:
    with pytest.raises(PathsError, match="is no UTF-8 name: rename it, or set PYTHONUTF8=1"):
        load_paths(save_dir=os.fsdecode(b"/results/m\xfcller"))


def test_each_source_outranks_the_one_below(local_yaml: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    local_yaml.write_text("data_dir: sets\nlasot: big/LaSOT\n")
    place = local_yaml.parent
    assert load_paths().candidates("lasot") == (place / "big/LaSOT",)
    assert load_paths().candidates("coco")[0] == place / "sets/coco"
    monkeypatch.setenv("TRACKING_LASOT_DIR", "/env/lasot")
    assert load_paths().candidates("lasot") == (Path("/env/lasot"),)
    assert load_paths({"lasot": "here"}).candidates("lasot") == (tmp_path / "here",)
    monkeypatch.delenv("TRACKING_LASOT_DIR")
    monkeypatch.setenv("TRACKING_DATA_DIR", "/env")
    assert load_paths().candidates("lasot")[0] == Path("/env/lasot")
    assert load_paths(data_dir="/call").candidates("coco")[0] == Path("/call/coco")


def test_own_key_wins_within_one_source(local_yaml: Path) -> None:
    paths = load_paths({"lasot": "/own"}, data_dir="/all")
    assert paths.candidates("lasot") == (Path("/own"),)


def test_missing_folder_says_key_place_layout_and_three_ways(local_yaml: Path) -> None:
    with pytest.raises(MissingPathError) as caught:
        load_paths(data_dir="/nowhere").dataset("got10k_train")
    text = str(caught.value)
    for part in (
        "'got10k'",
        "/nowhere/got10k/train",
        "list.txt",
        str(local_yaml),
        "TRACKING_GOT10K_DIR",
        "--data_dir",
    ):
        assert part in text


def test_missing_folder_names_the_outranked_setting(local_yaml: Path) -> None:
    local_yaml.write_text("\nlasot: /big/LaSOT\n")
    outranked = r"local\.yaml:2 says /big/LaSOT, but the command line or call outranks it"
    with pytest.raises(MissingPathError, match=outranked):
        load_paths(data_dir="/nowhere").dataset("lasot")


def test_zip_next_to_the_default_folder_is_found(local_yaml: Path, tmp_path: Path) -> None:
    (tmp_path / "got10k").mkdir()
    (tmp_path / "got10k" / "train.zip").write_bytes(b"")
    paths = load_paths(data_dir=tmp_path)
    assert paths.dataset("got10k") == tmp_path / "got10k" / "train.zip"
    (tmp_path / "got10k" / "train").mkdir()
    assert paths.dataset("got10k") == tmp_path / "got10k" / "train"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_dir: /d\nlasott: /x\n", r"local\.yaml:2: unknown key 'lasott'; did you mean 'lasot'\?"),
        ("lasot_dir: /x\n", r"local\.yaml:1: unknown key 'lasot_dir'; did you mean 'lasot'\?"),
        ("lasot: /x\nlasot: /y\n", r"local\.yaml:2: key 'lasot' is set twice"),
        ("lasot: [/x, /y]\n", r"local\.yaml:1: 'lasot' expects one folder"),
        ("- lasot\n", "expected lines of the form"),
        ("lasot: {", "not valid YAML"),
    ],
)
def test_broken_settings_file(local_yaml: Path, text: str, message: str) -> None:
    local_yaml.write_text(text)
    with pytest.raises(PathsError, match=message):
        load_paths()


def test_a_folder_in_other_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "LaSOT").mkdir()
    if (tmp_path / "lasot").exists():
        pytest.skip("this file system tells no case")
    with pytest.raises(MissingPathError, match=r"/lasot \(there is .*/LaSOT: upper and lower case count\), set by"):
        load_paths(data_dir=tmp_path).dataset("lasot")


def test_settings_of_windows_editors(local_yaml: Path) -> None:
    local_yaml.write_bytes(b"\xef\xbb\xbfdata_dir: /d\r\n")
    assert load_paths().data_dir == Path("/d")
    for encoding in ("utf-16", "cp1252"):
        local_yaml.write_text("data_dir: /daten/größer\n", encoding=encoding)
        with pytest.raises(PathsError, match=r"local\.yaml is not UTF-8 text"):
            load_paths()


def test_unknown_names_outside_the_file(local_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PathsError, match="did you mean 'coco'"):
        load_paths({"cocoo": "/x"})
    with pytest.raises(PathsError, match="KEY=FOLDER"):
        parse_overrides(["lasot"])
    assert parse_overrides(["vid=/x=y"]) == {"imagenet": "/x=y"}
    monkeypatch.setenv("TRACKING_LASOTT_DIR", "/x")
    with pytest.raises(PathsError, match="did you mean 'TRACKING_LASOT_DIR'"):
        load_paths()


def test_named_settings_file_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKING_LOCAL_YAML", str(tmp_path / "none.yaml"))
    with pytest.raises(PathsError, match=r"none\.yaml, which is not a file"):
        load_paths()


def test_paths_travel_to_worker_processes(local_yaml: Path) -> None:
    paths = load_paths({"lasot": "/x"})
    assert pickle.loads(pickle.dumps(paths)) == paths


def test_fresh_file_means_what_its_comments_say(local_yaml: Path, tmp_path: Path) -> None:
    text = import_command("create_default_local_file").default_local_yaml(
        tmp_path, tmp_path / "my data: #1", tmp_path / "out"
    )
    local_yaml.write_text(text)
    paths = load_paths()
    assert paths.data_dir == tmp_path / "my data: #1"
    assert paths.save_dir == tmp_path / "out"
    keys = [spec.key for spec in CATALOGUE.values()]
    uncommented = [
        line.removeprefix("# ") for line in text.splitlines() if line.startswith(tuple(f"# {k}: " for k in keys))
    ]
    assert len(uncommented) == len(keys)
    local_yaml.write_text(text + "\n" + "\n".join(uncommented) + "\n")
    for key in keys:
        assert load_paths().candidates(key)[0] == paths.candidates(key)[0]


def test_command_writes_once(
    local_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    local_yaml.unlink()
    monkeypatch.chdir(tmp_path)
    main = import_command("create_default_local_file").main
    line = ["--workspace_dir", ".", "--data_dir", "./sets", "--save_dir", "./out"]
    assert main(line) == 0
    assert str(local_yaml) in capsys.readouterr().out
    assert load_paths().data_dir == tmp_path.resolve() / "sets"
    local_yaml.write_text("data_dir: /mine\n")
    assert main(line) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert load_paths().data_dir == Path("/mine")
    assert main([*line, "--force"]) == 0
    assert load_paths().data_dir == tmp_path.resolve() / "sets"
    assert main(["--workspace_dir", "nowhere", "--force"]) == 2
    assert "--workspace_dir nowhere: no such folder" in capsys.readouterr().err


def test_documentation_has_every_key() -> None:
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    shipped = [s for s in CATALOGUE.values() if not any(map(os.path.isabs, s.folders))]  # without own folders
    for spec in shipped:
        folders = " or ".join(f"`{folder}`" for folder in spec.folders)
        assert f"| `{spec.key}` | {folders} | {spec.description} | `{spec.layout}` |" in text
