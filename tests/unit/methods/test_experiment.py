"""Experiments: published configurations load, wrong names are errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lib.config import ConfigError, read_tree
from lib.methods import load_experiment, resolve
from lib.models import CheckpointNotFoundError
from lib.paths import load_paths, repository_root

PUBLISHED = sorted(p.stem for p in (repository_root() / "experiments" / "ostrack").glob("vitb_*.yaml"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_load(name: str) -> None:
    experiment = load_experiment("ostrack", name)
    assert experiment.method.name == "ostrack"
    assert experiment.config.test.epoch in (100, 300)
    assert experiment.config.train.lr == read_tree(experiment.path, ()).get("TRAIN.LR") == experiment.cfg.TRAIN.LR


def test_values_of_the_published_table() -> None:
    c = load_experiment("ostrack", "vitb_384_mae_ce_32x4_got10k_ep100").config
    assert (c.data.search.size, c.data.template.size, c.data.search.factor) == (384, 192, 5.0)
    assert (c.data.search.center_jitter, c.data.search.scale_jitter) == (4.5, 0.5)
    assert c.data.train.names == ("GOT10K_train_full",)
    assert (c.train.epoch, c.train.lr_drop_epoch, c.train.ce_start_epoch, c.train.ce_warm_epoch) == (100, 80, 20, 50)
    assert c.model.backbone.args["ce_loc"] == (3, 6, 9)


def test_a_published_file_written_out_in_full_loads_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text(
        """
DATA:
  MAX_SAMPLE_INTERVAL: 200
  MEAN: [0.485, 0.456, 0.406]
  SEARCH: {CENTER_JITTER: 3, FACTOR: 4.0, SCALE_JITTER: 0.25, SIZE: 256, NUMBER: 1}
  STD: [0.229, 0.224, 0.225]
  TEMPLATE: {CENTER_JITTER: 0, FACTOR: 2.0, SCALE_JITTER: 0, SIZE: 128}
  TRAIN:
    DATASETS_NAME: [LASOT, GOT10K_vottrain, COCO17, TRACKINGNET]
    DATASETS_RATIO: [1, 1, 1, 1]
    SAMPLE_PER_EPOCH: 60000
  VAL:
    DATASETS_NAME: [GOT10K_votval]
    DATASETS_RATIO: [1]
    SAMPLE_PER_EPOCH: 10000
MODEL:
  PRETRAIN_FILE: "mae_pretrain_vit_base.pth"
  EXTRA_MERGER: False
  RETURN_INTER: False
  BACKBONE:
    TYPE: vit_base_patch16_224_ce
    STRIDE: 16
    CE_LOC: [3, 6, 9]
    CE_KEEP_RATIO: [0.7, 0.7, 0.7]
    CE_TEMPLATE_RANGE: 'CTR_POINT'
  HEAD: {TYPE: CENTER, NUM_CHANNELS: 256}
TRAIN:
  BACKBONE_MULTIPLIER: 0.1
  DROP_PATH_RATE: 0.1
  CE_START_EPOCH: 20
  CE_WARM_EPOCH: 80
  BATCH_SIZE: 32
  EPOCH: 300
  GIOU_WEIGHT: 2.0
  L1_WEIGHT: 5.0
  GRAD_CLIP_NORM: 0.1
  LR: 0.0004
  LR_DROP_EPOCH: 240
  NUM_WORKER: 10
  OPTIMIZER: ADAMW
  PRINT_INTERVAL: 50
  SCHEDULER: {TYPE: step, DECAY_RATE: 0.1}
  VAL_EPOCH_INTERVAL: 20
  WEIGHT_DECAY: 0.0001
  AMP: False
TEST: {EPOCH: 300, SEARCH_FACTOR: 4.0, SEARCH_SIZE: 256, TEMPLATE_FACTOR: 2.0, TEMPLATE_SIZE: 128}
"""
    )
    ours = load_experiment("ostrack", "vitb_256_mae_ce_32x4_ep300")
    assert load_experiment("ostrack", str(path)).hash == ours.hash


def test_unknown_names_tell_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no experiments for script 'ostrak'; did you mean 'ostrack'"):
        load_experiment("ostrak", "x")
    with pytest.raises(ConfigError, match=r"no configuration 'vitb_256_mae_ce_32x4_ep30'.*did you mean"):
        load_experiment("ostrack", "vitb_256_mae_ce_32x4_ep30")
    with pytest.raises(ConfigError, match="backbone vit_base_patch16_224 has no argument CE_LOCS"):
        load_experiment("ostrack", "vitb_256_mae_32x4_ep300", ["MODEL.BACKBONE.CE_LOCS=[3]"])
    with pytest.raises(ConfigError, match="config 'ostrack': these are swapped; the script is 'ostrack'"):
        load_experiment("synthetic_small", "ostrack")


@pytest.mark.parametrize("asked", ["TEST.EPOCH={}", "TEST={{EPOCH: {}}}"])
def test_an_epoch_that_is_asked_for_is_not_replaced_even_where_it_is_the_file_s(
    asked: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = replace(load_paths(), save_dir=tmp_path)
    default = load_experiment("ostrack", "synthetic_small")
    assert default.locate_weights("", paths).name == "synthetic_small.safetensors"
    for epoch in (default.config.test.epoch, 1):
        experiment = load_experiment("ostrack", "synthetic_small", [asked.format(epoch)])
        with pytest.raises(
            CheckpointNotFoundError, match=rf"no checkpoint of epoch {epoch} \(TEST.EPOCH, as asked for"
        ):
            experiment.locate_weights("", paths)
        assert experiment.locate_weights("synthetic_small", paths).name == "synthetic_small.safetensors"
        assert f"TEST.EPOCH={epoch} has no effect, since the weights are named: " in caplog.text
        caplog.clear()
        assert experiment.locate_weights("synthetic_small", paths, "--load")
        folder = tmp_path / "checkpoints/train/ostrack/synthetic_small"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"OSTrack_ep{epoch:04}.safetensors"
        file.touch()
        assert {experiment.locate_weights(name, paths) for name in ("", file.name, str(file))} == {file}
        assert "has no effect" not in caplog.text


def test_a_configuration_is_found_with_and_without_its_ending() -> None:
    assert load_experiment("ostrack", "synthetic_small.yaml") == load_experiment("ostrack", "synthetic_small")
    with pytest.raises(ConfigError, match=r"elsewhere/synthetic_small\.yaml: no such configuration file"):
        load_experiment("ostrack", "elsewhere/synthetic_small.yaml")


def test_a_method_without_a_tracker_says_so_in_one_sentence() -> None:
    toy = load_experiment("ostrack", "synthetic_small")
    experiment = replace(toy, method=replace(toy.method, name="pretraining", build_tracker=None))
    network = experiment.method.build_network(experiment.config, False)
    with pytest.raises(ConfigError, match="synthetic_small trains a network and has no tracker: method pretraining"):
        experiment.build_tracker(network)
    slt = replace(experiment, config=load_experiment("ostrack", "slt_synthetic", ["SLT.START=''"]).config)
    with pytest.raises(ConfigError, match="has no tracker"):
        resolve(slt, load_paths())


def test_settings_of_a_benchmark_are_checked_when_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("TEST:\n  BY_BENCHMARK:\n    LASOT: {EPOCH: 5}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:3: TEST\.BY_BENCHMARK\.LASOT\.EPOCH has no effect"):
        load_experiment("ostrack", str(path))
    path.write_text("TEST:\n  BY_BENCHMARK:\n    LASOT: {SEARCH_FACTR: 5}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:3: unknown key TEST\.BY_BENCHMARK\.LASOT\.SEARCH_FACTR; did you"):
        load_experiment("ostrack", str(path))
    path.write_text("TEST:\n  BY_BENCHMARK:\n    LASOT: {SEARCH_FACTOR: 5}\n")
    experiment = load_experiment("ostrack", str(path))
    network = experiment.method.build_network(load_experiment("ostrack", "synthetic_small").config, False)
    factors = [experiment.build_tracker(network, name).settings.search_factor for name in (None, "lasot", "otb")]
    assert factors == [4.0, 5.0, 4.0]
