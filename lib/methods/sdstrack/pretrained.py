"""Initial weights of SDSTrack: a whole RGB tracker, the foundation that stays frozen."""

from __future__ import annotations

import fnmatch
import logging
from pathlib import Path

from torch import Tensor

from lib.methods.ostrack.pretrained import TIMM, find_pretrained, load_vit
from lib.methods.sdstrack.network import SDSTrack
from lib.models import load_into, read_checkpoint
from lib.models.backbones import fit_positions

log = logging.getLogger(__name__)

OWN = (
    "backbone.*_Adapter.*",
    "backbone.patch_embed_multimodal.*",
    "backbone.pos_embed_z_z_dte",
    "backbone.pos_embed_x_x_dte",
)
"""What an RGB tracker has not."""


def load_foundation(network: SDSTrack, name: str, copy_stem: bool = False) -> None:
    """Fill the network from MODEL.PRETRAIN_FILE.

    name: a checkpoint of an RGB tracker (OSTrack), of which every weight must be there and have a place, or one of
    SDSTrack, to go on from; a ViT pre-trained on pictures (also ``timm:NAME``) fills the backbone alone.
    Position embeddings of other grids are resized.
    copy_stem: begin with the RGB patch embedding for X, where the file has none for X.
    Raises FileNotFoundError, or WeightsError listing what does not fit.
    """
    state = None if name.startswith(TIMM) or name.endswith(".npz") else _read_tracker(find_pretrained(name))
    if state is None:
        load_vit(network.backbone, name, [pattern.removeprefix("backbone.") for pattern in OWN])
    else:
        state = fit_positions(state, network.backbone.grid_template, network.backbone.grid_search)
    extended = state is not None and any(_is_own(key) for key in state)
    if state is not None:
        report = load_into(network, state, strict=True, ignore=() if extended else OWN, source=name)
        log.info("MODEL.PRETRAIN_FILE %s: %d tensors, %d are new", name, len(report.loaded), len(report.ignored))
    if copy_stem and not extended:
        stem, other = network.backbone.patch_embed, network.backbone.patch_embed_multimodal
        other.load_state_dict(stem.state_dict())


def _read_tracker(path: Path) -> dict[str, Tensor] | None:
    """The weights of a whole tracker; None when the file holds something else."""
    state = read_checkpoint(path).state_dict
    return state if any(key.startswith("box_head.") for key in state) else None


def _is_own(key: str) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in OWN)
