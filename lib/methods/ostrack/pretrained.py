"""Initial weights of a one-stream network: a ViT pre-trained on pictures, or a whole tracker."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from lib.methods.ostrack.network import OSTrack
from lib.models import load_flax_npz, load_into, read_checkpoint, weights_from_timm
from lib.models.backbones import OneStreamViT, adapt_vit
from lib.paths import load_paths

log = logging.getLogger(__name__)

TIMM = "timm:"
# A ViT's classifier, MAE's decoder and its mask token have no place in a tracker.
_ELSEWHERE = ("head.*", "fc_norm.*", "decoder_*", "mask_token", "*_segment_pos_embed")


def load_pretrained(network: OSTrack, name: str) -> None:
    """Fill the network from MODEL.PRETRAIN_FILE.

    name: a file in the `pretrained` folder (or a path) with a ViT, such as MAE's, or a Flax `.npz`;
    ``timm:vit_base_patch16_224.mae`` for weights that timm knows; a path with "OSTrack" in the file's name loads a
    whole tracker; names that differ are told in a warning.
    Position embeddings are resized to the two grids, the patch convolution to the stride.
    """
    if "OSTrack" in Path(name).name:
        report = load_into(network, read_checkpoint(Path(name)).state_dict, strict=False, source=name)
        if report.missing or report.unexpected:
            log.warning("MODEL.PRETRAIN_FILE %s: %s", name, report.describe())
        return
    load_vit(network.backbone, name)


def load_vit(backbone: OneStreamViT, name: str, ignore: Sequence[str] = ()) -> None:
    """Fill a backbone from a ViT that was pre-trained on pictures. ignore: patterns of names that such a ViT lacks."""
    state = adapt_vit(_read_vit(name), backbone.patch, backbone.grid_template, backbone.grid_search)
    load_into(backbone, state, strict=True, ignore=(*_ELSEWHERE, *ignore))


def _read_vit(name: str) -> dict[str, Tensor]:
    if name.startswith(TIMM):
        return weights_from_timm(name.removeprefix(TIMM))
    path = find_pretrained(name)
    return load_flax_npz(path) if path.suffix == ".npz" else read_checkpoint(path).state_dict


def find_pretrained(name: str) -> Path:
    """The file that MODEL.PRETRAIN_FILE names: a path, or one in the `pretrained` folder (which may be part of it)."""
    folder = load_paths().pretrained
    inside = Path(name).relative_to("pretrained") if Path(name).is_relative_to("pretrained") else Path(name)
    for path in (Path(name), folder / inside):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"MODEL.PRETRAIN_FILE {name!r}: no such file in {folder}; put it there, or write {TIMM}NAME for a timm model, "
        "or an empty string to start from random weights"
    )
