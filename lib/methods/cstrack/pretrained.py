"""Weights of CSTrack's files: Fast-iTPN's pre-training, and the class token of published checkpoints."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from lib.methods.cstrack.config import Config
from lib.methods.ostrack.pretrained import find_pretrained
from lib.models import Checkpoint, WeightsError, load_into, read_checkpoint
from lib.models.backbones import FastITPN, resize_position

log = logging.getLogger(__name__)

CLASS_TOKEN, POSITION = "backbone.cls_token", "backbone.pos_embed"
OWN = ("token_type_",)
"""Names of what a backbone has and pre-training has not begin so."""
CORE = ("patch_embed.", "blocks.")
"""Names of what must be in the file begin so."""
PRETRAINING_KEY = "module"


def load_fast_itpn(backbone: FastITPN, name: str) -> None:
    """Fill a backbone from MODEL.PRETRAIN_FILE, such as `fast_itpn_base_clipl_e1600.pt`.

    Both templates begin with the same position code. The class token becomes the mean position code, not that of the
    file, as in published training. What only pre-training needs is left aside.
    Raises FileNotFoundError, or WeightsError where a weight of the backbone is not in the file.
    """
    path = find_pretrained(name)
    try:
        state = read_checkpoint(path, PRETRAINING_KEY).state_dict
    except WeightsError:
        state = read_checkpoint(path).state_dict
    if "pos_embed" not in state:
        raise WeightsError(f"MODEL.PRETRAIN_FILE {path}: no pos_embed in it, so this is no pre-trained Fast-iTPN")
    adapted = adapt_fast_itpn(state, backbone)
    known = backbone.state_dict().keys()
    log.info("MODEL.PRETRAIN_FILE %s: %d of its tensors have no place", name, len(adapted.keys() - known))
    fitting = {key: value for key, value in adapted.items() if key in known}
    beside = [k for k in known - fitting.keys() if not k.startswith(CORE) and not k.startswith(OWN)]
    if beside:
        log.warning("MODEL.PRETRAIN_FILE %s lacks %s; they begin fresh", name, ", ".join(sorted(beside)))
    load_into(backbone, fitting, strict=True, ignore=[*beside, *(f"{prefix}*" for prefix in OWN)], source=path)


def adapt_fast_itpn(state: dict[str, Tensor], backbone: FastITPN) -> dict[str, Tensor]:
    """A pre-trained state dict with position codes for the backbone's grids, and their mean as class token."""
    adapted = {k: _with_mean(v) if "pos_embed" in k else v for k, v in state.items()}
    position = adapted["pos_embed"]
    one = resize_position(position, backbone.grid_template)
    count = backbone.pos_embed_z.shape[1] // one.shape[1]
    adapted["pos_embed_z"] = torch.cat([one] * count, dim=1)
    adapted["pos_embed_x"] = resize_position(position, backbone.grid_search)
    adapted["cls_token"] = position[:, :1].clone()
    return adapted


def _with_mean(position: Tensor) -> Tensor:
    return torch.cat([position.mean(dim=1, keepdim=True), position], dim=1)


def weights_of(config: Config, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """What a network takes of a file; see MODEL.CLASS_TOKEN.

    In the official code, both parameters share their memory while weights are loaded, so that the class token of every
    file is overwritten by the position embedding's first row; figures that were published were measured so.
    """
    state, wish = checkpoint.state_dict, config.model.class_token
    official = checkpoint.kind != "release" or "converted_from" in checkpoint.metadata
    if wish == "trained" or (wish == "auto" and not official) or not {CLASS_TOKEN, POSITION} <= state.keys():
        return state
    return {**state, CLASS_TOKEN: state[POSITION][:, :1].clone()}
