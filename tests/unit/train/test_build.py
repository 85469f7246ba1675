"""From a configuration to data loaders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib.config import ConfigError
from lib.distributed import World
from lib.methods import load_experiment
from lib.paths import Paths
from lib.train import TrainOptions, build_setup

SMALL = ("TRAIN.BATCH_SIZE=4", "TRAIN.NUM_WORKER=0", "DATA.TRAIN.SAMPLE_PER_EPOCH=8")
MIXED = "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=2,length=24','SYNTHETIC:rgbt,sequences=2,length=24']"


FRESH = ("MODEL.PRETRAIN_FILE=''", "MODEL.COPY_STEM=false")


def parts_of(tmp_path: Path, *overrides: str, method: str = "ostrack", config: str = "synthetic_small"):
    experiment = load_experiment(method, config, (*SMALL, *overrides))
    paths = Paths(workspace=tmp_path, data_dir=tmp_path, save_dir=tmp_path, pretrained=tmp_path)
    return build_setup(experiment, World(torch.device("cpu")), paths, TrainOptions("x", "x"))


def test_rgb_and_rgbx_sets_are_mixed_only_where_the_configuration_says_how(tmp_path: Path) -> None:
    mixed = (MIXED, "DATA.TRAIN.DATASETS_RATIO=[1,1]", *FRESH)
    both = {"method": "sdstrack", "config": "synthetic_demo"}
    with pytest.raises(ValueError, match=r"plain RGB \(synthetic\).*DATA.MULTI_MODAL_VISION: true"):
        parts_of(tmp_path, *mixed, **both)
    parts = parts_of(tmp_path, *mixed, "DATA.MULTI_MODAL_VISION=true", **both)
    batch = next(parts.train_loader.epoch(1))
    assert batch.search.shape[2] == 6


@pytest.mark.parametrize("names", [MIXED, "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:rgbt,sequences=2,length=24']"])
def test_a_method_that_reads_rgb_is_trained_on_the_rgb_pictures_of_any_set(tmp_path: Path, names: str) -> None:
    parts = parts_of(tmp_path, names, f"DATA.TRAIN.DATASETS_RATIO={[1] * (names.count('SYNTHETIC'))}")
    assert next(parts.train_loader.epoch(1)).search.shape[2] == 3


def test_how_samples_are_made_is_in_the_configuration(tmp_path: Path) -> None:
    data = "DATA.TRAIN.DATASETS_NAME=['SYNTHETIC:sequences=2,length=24']"
    still = ("DATA.AUGMENT.MIRROR=0", "DATA.AUGMENT.CROP_FLIP=0", "DATA.AUGMENT.BRIGHTNESS=0")
    plain = next(parts_of(tmp_path, data, *still).train_loader.epoch(1))
    other = next(parts_of(tmp_path, data, *still, "DATA.BOX_UNIT=size_minus_one").train_loader.epoch(1))
    assert torch.equal(plain.search_colour, torch.eye(3, 4).expand_as(plain.search_colour))
    side = plain.search.shape[-1]
    torch.testing.assert_close(other.search_boxes * (side - 1), plain.search_boxes * side)


@pytest.mark.parametrize("wrong", ["DATA.BOX_UNIT=pixels", "DATA.AUGMENT.GREY_RULE=all", "DATA.AUGMENT.GREY=2"])
def test_what_processing_does_not_know_is_refused(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="must"):
        parts_of(tmp_path, wrong)
