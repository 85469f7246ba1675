"""Initial weights of SDSTrack: a whole RGB tracker, the foundation that stays frozen."""

from __future__ import annotations

import fnmatch
import logging
from pathlib import Path

from lib.methods.ostrack.pretrained import TIMM, find_pretrained, load_vit
from lib.methods.sdstrack.network import SDSTrack
from lib.models.weights import load_into, read_checkpoint

log = logging.getLogger(__name__)

OWN = (
    "backbone.*_Adapter.*",
    "backbone.patch_embed_multimodal.*",
    "backbone.pos_embed_z_z_dte",
    "backbone.pos_embed_x_x_dte",
)
"""What an RGB tracker has not."""


def load_foundation(network: SDSTrack, name: str) -> None:
    """Fill the network from MODEL.PRETRAIN_FILE.

    name: a checkpoint of an RGB tracker (OSTrack), of which every weight must be there and have a place, or one of
    SDSTrack, to go on from; a ViT pre-trained on pictures (also ``timm:NAME``) fills the backbone alone.
    Raises FileNotFoundError, or WeightsError listing what does not fit.
    """
    if not name.startswith(TIMM):
        path = find_pretrained(name)
        if path.suffix != ".npz" and _load_tracker(network, path):
            return
    prefix = "backbone."
    load_vit(network.backbone, name, [pattern.removeprefix(prefix) for pattern in OWN])


def _load_tracker(network: SDSTrack, path: Path) -> bool:
    state = read_checkpoint(path).state_dict
    if not any(key.startswith("box_head.") for key in state):
        return False
    extended = any(fnmatch.fnmatchcase(key, pattern) for key in state for pattern in OWN)
    report = load_into(network, state, strict=True, ignore=() if extended else OWN, source=path)
    log.info("MODEL.PRETRAIN_FILE %s: %d tensors, %d are new", path, len(report.loaded), len(report.ignored))
    return True
