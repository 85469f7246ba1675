"""CSTrack: compact spatiotemporal features for RGB-X tracking (Feng et al., ICML 2025), both stages."""

from __future__ import annotations

import torch
from torch import Tensor

from lib.config import ConfigError
from lib.methods.common import backbone_and_head, is_tracker
from lib.methods.cstrack.config import INERT_KEYS, CSTrackConfig, TemplateUpdate, TemporalConfig, complete, translate
from lib.methods.cstrack.network import CSTrack, CSTrackOutput, MemorySize
from lib.methods.cstrack.objective import TASKS, CSTrackCriterion, CSTrackObjective
from lib.methods.cstrack.tracker import CSTrackRegion, CSTrackState, CSTrackTracker
from lib.methods.method import Method, register_method
from lib.models import Checkpoint, Mapped, WeightsError
from lib.models.backbones import ITPNS, FastITPN, resize_position
from lib.models.heads import HEADS
from lib.track import CropSettings

CLASS_TOKEN, POSITION = "backbone.cls_token", "backbone.pos_embed"
CORE = ("patch_embed.", "blocks.")
"""Beginnings of the names that must be in a pre-trained file."""


def build_network(config: CSTrackConfig, training: bool) -> CSTrack:
    """Fresh weights; at the sizes of DATA for training, of TEST otherwise."""
    model = config.model
    backbone, head = backbone_and_head(config, ITPNS, training)
    hidden, width = model.hidden_dim, backbone.width
    if hidden not in (None, width):
        raise ConfigError(f"MODEL.HIDDEN_DIM is {hidden}, but the backbone's tokens are {width} wide")
    backbone.checkpointing = training and config.train.activation_checkpointing
    memory = MemorySize(model.memory_length, model.memory_tokens) if model.temporal else None
    return CSTrack(backbone, head, model.nheads, model.prompts, memory)


def map_pretrained(config: CSTrackConfig, network: CSTrack, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Names of the pre-training alone are left out; those that are not layers of the encoder may be missing.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: A Fast-iTPN, such as `fast_itpn_base_clipl_e1600.pt`, which fills the backbone, or a whole CSTrack.

    Raises:
        WeightsError: The file is no Fast-iTPN.
    """
    if is_tracker(checkpoint):
        return map_trained(config, checkpoint)
    if "pos_embed" not in checkpoint.state_dict:
        raise WeightsError(
            f"MODEL.PRETRAIN_FILE {checkpoint.path}: no pos_embed in it, so this is no pre-trained Fast-iTPN"
        )
    adapted, known = adapt_fast_itpn(checkpoint.state_dict, network.backbone), network.backbone.state_dict()
    optional = [name for name in known if not name.startswith(CORE)]
    return Mapped.of_part(network, "backbone.", adapted, optional, elsewhere=[n for n in adapted if n not in known])


def adapt_fast_itpn(state: dict[str, Tensor], backbone: FastITPN) -> dict[str, Tensor]:
    """A pre-trained state dict with position embeddings for the backbone's grids, and their mean as class token.

    Both templates begin with the same embedding. The class token is not that of the file, as in published training.
    """
    adapted = {k: torch.cat([v.mean(1, keepdim=True), v], 1) if "pos_embed" in k else v for k, v in state.items()}
    position = adapted["pos_embed"]
    one = resize_position(position, backbone.grid_template)
    count = backbone.pos_embed_z.shape[1] // one.shape[1]
    adapted["pos_embed_z"] = torch.cat([one] * count, dim=1)
    adapted["pos_embed_x"] = resize_position(position, backbone.grid_search)
    adapted["cls_token"] = position[:, :1].clone()
    return adapted


def map_trained(config: CSTrackConfig, checkpoint: Checkpoint) -> Mapped:
    """A trained CSTrack with the class token that MODEL.CLASS_TOKEN chooses.

    In the official code, both parameters share their memory while weights are loaded, so that the class token of every
    file is overwritten by the position embedding's first row; published figures were measured so.
    """
    state, choice = checkpoint.state_dict, config.model.class_token
    official = checkpoint.kind != "release" or "converted_from" in checkpoint.metadata
    if choice == "trained" or (choice == "auto" and not official) or not {CLASS_TOKEN, POSITION} <= state.keys():
        return Mapped(state)
    return Mapped({**state, CLASS_TOKEN: state[POSITION][:, :1].clone()})


for stage, keys in ((1, CSTrackConfig), (2, TemporalConfig)):
    register_method(
        Method(
            name=f"cstrack_s{stage}",
            network_name=f"CSTRACK_S{stage}",
            config=keys,
            build_network=build_network,
            build_objective=CSTrackObjective,
            build_tracker=lambda config, net: CSTrackTracker(net, CropSettings.from_config(config), config.test.update),
            reads_aux=True,
            map_trained=map_trained,
            map_pretrained=map_pretrained,
            inert_keys=INERT_KEYS,
            translate=translate,
            complete=complete,
            added=("temporal_fusion.*", "dy_template_pos_embed.*"),
            parts={"model.backbone": ITPNS, "model.head": HEADS},
        )
    )
