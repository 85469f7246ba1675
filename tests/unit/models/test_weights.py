"""Weights: published files are read safely and strictly, releases survive the round trip, errors say what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections import OrderedDict, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib.models import (
    CheckpointNotFoundError,
    Mapped,
    WeightPlaces,
    WeightsError,
    difference,
    is_expected,
    load_into,
    locate,
    nonfinite_tensors,
    read_checkpoint,
    save_release,
    sha256_of,
)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def foreign_classes(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Classes of modules that exist only while the file is written."""
    made = {}
    for dotted in (
        "author.train.stats.AverageMeter",
        "author.train.stats.StatValue",
        "author.train.settings.Settings",
        "author.train.local.EnvironmentSettings",
        "author.train.tools.Options",
    ):
        module, _, name = dotted.rpartition(".")
        parent = dict if name == "Options" else object
        cls = type(name, (parent,), {"__module__": module})
        parts = module.split(".")
        for i in range(1, len(parts) + 1):
            path = ".".join(parts[:i])
            if path not in sys.modules:
                monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
        setattr(sys.modules[module], name, cls)
        made[name] = cls
    return made


def published(monkeypatch: pytest.MonkeyPatch, path: Path, network: nn.Module, legacy: bool = False) -> None:
    """A file of the shape that trackers of this family are published in."""
    classes = foreign_classes(monkeypatch)
    meter = classes["AverageMeter"]()
    meter.__dict__.update(val=0.5, avg=0.4, sum=4.0, count=10, history=[])
    value = classes["StatValue"]()
    value.__dict__.update(val=1e-4, history=[1e-4])
    settings = classes["Settings"]()
    settings.env = classes["EnvironmentSettings"]()
    settings.env.workspace_dir = "/somewhere"
    settings.options = classes["Options"]({"a": 1})
    settings.options.mark = True
    settings.counts = defaultdict(int, {"x": 3})
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    network(torch.zeros(1, 3, 6, 6)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 300,
        "actor_type": "OSTrackActor",
        "net_type": "OSTrack",
        "net": network.state_dict(),
        "net_info": None,
        "constructor": None,
        "optimizer": optimizer.state_dict(),
        "stats": OrderedDict(train=OrderedDict([("IoU", meter), ("LearningRate/group0", value)])),
        "settings": settings,
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    for name in [n for n in sys.modules if n == "author" or n.startswith("author.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("legacy", [False, True])
def test_published_checkpoint_loads_strictly_without_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool
) -> None:
    network = small_network()
    path = tmp_path / "OSTrack_ep0300.pth.tar"
    published(monkeypatch, path, network, legacy)
    found = read_checkpoint(path)
    assert (found.kind, found.key, found.metadata["epoch"], found.metadata["net_type"]) == (
        "published",
        "net",
        300,
        "OSTrack",
    )
    assert found.optimizer["param_groups"][0]["lr"] == 1e-4
    assert "author.train.settings.Settings" in found.replaced
    assert found.metadata["stats"]["train"]["IoU"]["avg"] == 0.4
    assert found.metadata["settings"]["options"] == {"a": 1}
    assert found.metadata["settings"]["counts"] == {"x": 3}
    assert not any(n.startswith("author") for n in sys.modules)
    other = small_network()
    for p in other.parameters():
        nn.init.zeros_(p)
    report = load_into(other, found.state_dict)
    assert len(report.loaded) == len(network.state_dict())
    loaded = other.state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)


@pytest.mark.slow
def test_published_checkpoint_in_a_fresh_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pth.tar"
    published(monkeypatch, path, small_network())
    code = f"from lib.models import read_checkpoint as r; print(r({str(path)!r}).describe())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
    )
    assert "epoch 300" in done.stdout
    assert "with optimizer state" in done.stdout


class Attack:
    """An object that asks the reader to call something."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


NAMES = {"eval": "eval", "exec": "exec", "open": "open", "popen": "Popen", "system": "system", "makedirs": "makedirs"}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", [*NAMES])
def test_no_code_of_the_file_runs(tmp_path: Path, where: str, legacy: bool) -> None:
    mark = tmp_path / "mark"
    attacks = {
        "eval": Attack(eval, f"open({str(mark)!r}, 'w').close()"),
        "exec": Attack(exec, f"open({str(mark)!r}, 'w').close()"),
        "open": Attack(open, str(mark), "w"),
        "popen": Attack(subprocess.Popen, ["touch", str(mark)]),
        "system": Attack(os.system, f"touch {mark}"),
        "makedirs": Attack(os.makedirs, str(mark)),
    }
    path = tmp_path / "bad.pth"
    torch.save({"net": {"w": torch.ones(2)}, "extra": attacks[where]}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"bad\.pth: refused as unsafe, since it names \S*\b" + NAMES[where]):
        read_checkpoint(path)
    assert not mark.exists()


def test_names_of_this_field_are_known_and_others_are_not() -> None:
    known = (
        "lib.train.admin.stats.StatValue", "ltr.admin.settings.Settings", "easydict.EasyDict", "yacs.config.CfgNode",
        "argparse.Namespace", "pathlib.PosixPath", "collections.OrderedDict", "numpy.core.multiarray.scalar",
        "numpy.dtype", "numpy.float64", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage", "torch.float32",
        "torch.nn.modules.conv.Conv2d", "torch.device", "__main__.Settings", "mmengine.config.ConfigDict",
    )  # fmt: skip
    refused = (
        "builtins.exec", "builtins.getattr", "builtins.__import__", "subprocess.Popen", "posix.system", "pty.spawn",
        "importlib.import_module", "torch.load", "torch.hub.load", "torch.serialization.load", "numpy.load",
        "numpy.memmap", "shutil.rmtree", "runpy.run_path", "webbrowser.open", "pip.main", "os.path.join", "io.open",
    )  # fmt: skip
    assert [name for name in known if not is_expected(name)] == []
    assert [name for name in refused if is_expected(name)] == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "the file is empty"),
        (
            "a.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "Git LFS pointer.*git lfs pull",
        ),
        ("a.npz", b"\n<!DOCTYPE html><html>quota</html>", "web page"),
        ("a.pth.tar", b"PK\x03\x04" + b"\0" * 300, "truncated download"),
        ("a.pt", b"\x1f\x8b\x08" + b"\0" * 30, "packed archive; unpack it"),
        ("a.safetensors", b'\x08\0\0\0\0\0\0\0{"a":}', "truncated or damaged download"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}: not a .*{message}"):
        read_checkpoint(tmp_path / name)


@pytest.mark.slow
def test_entries_that_repeat_or_hold_themselves_end_in_a_sentence(tmp_path: Path) -> None:
    bomb: list[object] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    ring: list[object] = []
    ring.append(ring)
    for entry in (bomb, ring):
        torch.save({"net": {"w": torch.ones(2)}, "stats": entry}, tmp_path / "x.pth")
        with pytest.raises(WeightsError, match=r"x\.pth: the entries next to the weights are nested too deeply"):
            read_checkpoint(tmp_path / "x.pth")


def test_the_shipped_network_is_found_by_its_own_name(tmp_path: Path) -> None:
    places = WeightPlaces(tmp_path / "pretrained", tmp_path)
    for name in ("synthetic_small", "synthetic_small.safetensors", "pretrained/synthetic_small.safetensors"):
        assert locate(name, places, "--checkpoint").name == "synthetic_small.safetensors"


def test_only_dense_tensors_of_real_numbers_under_names_are_weights(tmp_path: Path) -> None:
    one = torch.ones(1)
    for content in ({1: one}, {"a": one.to_sparse()}, {"a": one.to(torch.complex64)}, {"a": one.to("meta")}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(WeightsError, match=r"x\.pth: 1 entries of the weights are no named dense tensors: [1a] "):
            read_checkpoint(tmp_path / "x.pth")


def test_the_state_of_a_training_names_the_file_of_its_weights(tmp_path: Path) -> None:
    torch.save({"position": 3, "optimizer": {}}, tmp_path / "OSTrack_ep0001_state.pt")
    with pytest.raises(WeightsError, match=r"the state to resume .* are in .*/OSTrack_ep0001.safetensors$"):
        read_checkpoint(tmp_path / "OSTrack_ep0001_state.pt")


def test_a_newer_epoch_than_the_one_taken_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    places = WeightPlaces(tmp_path / "pretrained", tmp_path, "ostrack", "synthetic_small", "OSTrack", epoch=4)
    for epoch, taken, newest in ((4, "OSTrack_ep0004", 0), (9, "OSTrack_ep0004", 9)):
        (tmp_path / f"OSTrack_ep{epoch:04}.safetensors").touch()
        assert locate("", places, "--checkpoint").stem == taken
        assert ("has epoch 9; --checkpoint latest takes the newest" in caplog.text) == (newest == 9)
    (tmp_path / "OSTrack_ep0004.safetensors").unlink()
    assert locate("", places, "--checkpoint").stem == "synthetic_small"
    assert "synthetic_small.safetensors is taken, by TEST.EPOCH (4)" in caplog.text
    with pytest.raises(CheckpointNotFoundError, match=r"no checkpoint of epoch 4 \(TEST.EPOCH, as asked for\) in "):
        locate("", replace(places, only_epoch=True), "--checkpoint")
    (tmp_path / "OSTrack_ep0009.safetensors").rename(tmp_path / "OSTrack_latest.safetensors")
    locate("", places, "--checkpoint")
    assert f"although {tmp_path} has OSTrack_latest.safetensors; --checkpoint latest" in caplog.text
    (tmp_path / "OSTrack_latest.safetensors").unlink()
    locate("", places, "--checkpoint")
    assert f"although {tmp_path} has a training without a checkpoint\n" in caplog.text


def test_where_the_weights_are_found(tmp_path: Path) -> None:
    w = {"module.a": torch.ones(1), "module.b": torch.zeros(2)}
    for key in ("net", "model", "state_dict", "network", ""):
        torch.save({key: w, "epoch": 2} if key else w, tmp_path / "x.pth")
        found = read_checkpoint(tmp_path / "x.pth")
        assert (found.key, list(found.state_dict), found.unwrapped) == (key, ["a", "b"], True)
    torch.save({"model": {"cls_token": torch.zeros(1), "decoder_embed.weight": torch.zeros(1)}}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").kind == "mae"
    torch.save({"generator": w}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="generator"):
        read_checkpoint(tmp_path / "x.pth")
    assert list(read_checkpoint(tmp_path / "x.pth", key="generator").state_dict) == ["a", "b"]
    save_release(tmp_path / "x", w, {})
    with pytest.raises(WeightsError, match=r"x\.safetensors: no weights under key 'net'; files of this kind hold"):
        read_checkpoint(tmp_path / "x.safetensors", key="net")


@pytest.mark.parametrize("legacy", [False, True])
def test_broken_files_end_in_one_sentence(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "x.pth.tar"
    torch.save({"net": small_network().state_dict()}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:30], b"", b"<html>not found</html>"):
        path.write_bytes(part)
        with pytest.raises(WeightsError) as error:
            read_checkpoint(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="no such file"):
        read_checkpoint(tmp_path / "absent.pth")


def test_strict_loading_names_what_differs() -> None:
    network = small_network()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    weights: dict[str, Tensor] = {k: v + 1 for k, v in before.items()}
    weights["2.weight"] = torch.zeros(5, 5)
    del weights["0.bias"]
    weights["extra.a"] = torch.zeros(1)
    with pytest.raises(WeightsError) as error:
        load_into(network, weights, source="file.pth")
    for part in ("file.pth", "1 missing from the file: 0.bias", "extra.a", "2.weight (file (5, 5), network (2, 4))"):
        assert part in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    del weights["2.weight"]
    report = load_into(network, Mapped(weights, ("2.*",)), strict=False)
    assert report.missing == ("0.bias",)
    assert report.unexpected == ("extra.a",)
    assert report.fresh == ("2.weight",)
    assert torch.equal(network.state_dict()["0.weight"], before["0.weight"] + 1)
    assert torch.equal(network.state_dict()["2.weight"], before["2.weight"])


def test_a_part_of_a_network_is_filled_also_by_old_files_without_counters() -> None:
    network = nn.ModuleDict({"body": small_network(), "head": nn.Linear(2, 2)})
    weights = {k: v + 1 for k, v in small_network().state_dict().items() if "num_batches" not in k}
    weights["decoder.bias"] = torch.zeros(1)
    before = network["head"].weight.clone()
    report = load_into(network, Mapped.of_part(network, "body.", weights, elsewhere=["decoder.*"]))
    assert report.unused == ("decoder.bias",)
    assert set(report.fresh) == {"body.1.num_batches_tracked", "head.weight", "head.bias"}
    assert torch.equal(network["body"].state_dict()["0.weight"], weights["0.weight"])
    assert torch.equal(network["head"].weight, before)
    weights["other"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"2 unknown to the network: .*body\.other"):
        load_into(network, Mapped.of_part(network, "body.", weights))


def test_release_round_trip_and_pairs_that_do_not_belong(tmp_path: Path) -> None:
    network = small_network()
    shared = {**network.state_dict(), "tied": network.state_dict()["0.weight"], "row": torch.eye(3)[1]}
    path = save_release(tmp_path / "a.b_ep0001", shared, {"script": "ostrack", "epoch": 1})
    assert path.name == "a.b_ep0001.safetensors"
    found = read_checkpoint(path)
    assert found.kind == "release"
    assert found.metadata["script"] == "ostrack"
    assert found.sha256 == sha256_of(path) == found.metadata["sha256"]
    assert all(torch.equal(found.state_dict[k], v) for k, v in shared.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.b_ep0001.json", "a.b_ep0001.safetensors"]
    other = save_release(tmp_path / "other", {"w": torch.zeros(1)}, {})
    path.write_bytes(other.read_bytes())
    with pytest.raises(WeightsError, match="sha256"):
        read_checkpoint(path)


def test_weights_that_are_not_finite_are_neither_loaded_nor_saved(tmp_path: Path) -> None:
    network, state = small_network(), small_network().state_dict()
    state["0.weight"].view(-1)[[3, 7]] = torch.tensor([float("nan"), float("inf")])
    state["2.bias"][0] = float("-inf")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"^x.pt: 2 tensors hold .*: 0.weight \(2 of 108 values\), 2.bias \(1 of 2 values\)$"
    ):
        load_into(network, state, source="x.pt")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with pytest.raises(WeightsError, match=r"release: not written: 2 tensors .* 0.weight"):
        save_release(tmp_path / "release", state, {})
    assert not list(tmp_path.iterdir())


def test_large_finite_values_are_finite() -> None:
    large = {"half": torch.full((100,), 6e4).half(), "single": torch.full((9,), 3e38), "count": torch.tensor(7)}
    assert nonfinite_tensors({**large, "double": torch.full((2,), 1e300, dtype=torch.float64)}) == []
    assert nonfinite_tensors({**large, "bf16": torch.tensor([1.0, float("nan")]).bfloat16()}) == [
        "bf16 (1 of 2 values)"
    ]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_one_flipped_byte_of_a_tensor_is_refused(tmp_path: Path, suffix: str) -> None:
    path, state = tmp_path / f"x{suffix}", {"weight": torch.arange(1000, dtype=torch.float32)}
    torch.save({"net": state}, path) if suffix == ".pt" else save_release(tmp_path / "x", state, {})
    data = bytearray(path.read_bytes())
    at = data.index(state["weight"].numpy().tobytes()) + 2001
    data[at] ^= 1
    path.write_bytes(data)
    reason = r"entry x/data/0 does not have the checksum" if suffix == ".pt" else "sha256 differs"
    with pytest.raises(WeightsError, match=rf"x\{suffix}: .*{reason}"):
        read_checkpoint(path)


def test_a_safetensors_file_of_another_length_is_refused(tmp_path: Path) -> None:
    path = save_release(tmp_path / "x", {"weight": torch.ones(1000)}, {})
    whole = path.read_bytes()
    (tmp_path / "x.json").unlink()  # without the checksum, header and length speak for themselves
    for damaged in (whole[:-4], whole + b"0000", whole[:6] + b"\xff\xff" + whole[8:], whole[:40]):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"x\.safetensors: not a readable safetensors file"):
            read_checkpoint(path)


def test_latest_is_the_newest_epoch_and_before_the_first_what_was_saved_between(tmp_path: Path) -> None:
    places = WeightPlaces(tmp_path / "pretrained", tmp_path, network="OSTrack")
    with pytest.raises(CheckpointNotFoundError, match="latest: no checkpoint"):
        locate("latest", places, "--checkpoint")
    for name in ("OSTrack_latest", "OSTrack_ep0001", "OSTrack_ep0010"):
        file = tmp_path / f"{name}.safetensors"
        file.touch()
        assert locate("latest", places, "--checkpoint") == file


def test_a_release_of_what_was_trained_is_completed_by_its_base(tmp_path: Path) -> None:
    frozen, moved = torch.randn(3), torch.zeros(2)
    base = read_checkpoint(save_release(tmp_path / "base", {"frozen": frozen, "moved": moved}, {}))
    state = {"frozen": frozen, "moved": moved.double() + 1, "added": torch.ones(4)}
    whole = read_checkpoint(save_release(tmp_path / "whole", state, {}))
    own, entry = difference(whole, base)
    file = save_release(tmp_path / "small", own, {"epoch": 3, **entry})
    assert set(load_file(file)) == {"moved", "added"}
    found = read_checkpoint(file)
    assert found.metadata["epoch"] == 3
    assert {k: v.tolist() for k, v in found.state_dict.items()} == {k: v.tolist() for k, v in state.items()}
    with pytest.raises(WeightsError, match=r"it has not grown from .*base\.safetensors, whose frozen it lacks"):
        difference(replace(whole, state_dict=own), base)
    save_release(tmp_path / "base", {"frozen": frozen + 1, "moved": moved}, {})
    with pytest.raises(WeightsError, match=r"small\.safetensors: holds what differs from .*which has another sha256"):
        read_checkpoint(file)
    base.path.unlink()
    with pytest.raises(WeightsError, match="which is not there"):
        read_checkpoint(file)


@pytest.mark.parametrize("base", ["base.safetensors", {"file": "../base.safetensors", "sha256": ""}, {"sha256": ""}])
def test_a_base_is_the_name_of_a_file_next_to_the_release(tmp_path: Path, base: object) -> None:
    file = save_release(tmp_path / "small", {"w": torch.ones(1)}, {"base": base})
    with pytest.raises(WeightsError, match=r"small\.json: expected the name of a file next to it"):
        read_checkpoint(file)
