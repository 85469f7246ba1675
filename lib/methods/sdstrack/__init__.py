"""SDSTrack: self-distillation symmetric adapter learning for multi-modal tracking (Hou et al., CVPR 2024)."""

from __future__ import annotations

import fnmatch
from dataclasses import replace

from lib.methods.common import backbone_and_head, is_tracker, map_tracker, map_vit
from lib.methods.method import Method, register_method
from lib.methods.ostrack import MASK_HEAD, MaskObjective, OSTrackTracker, with_mask_head
from lib.methods.sdstrack.config import SDSTrackConfig, complete, published_groups
from lib.methods.sdstrack.network import SDSTrack
from lib.methods.sdstrack.objective import SDSTrackObjective
from lib.models import Checkpoint, Mapped
from lib.models.backbones import RGBX_BACKBONES
from lib.models.heads import HEADS
from lib.track import CropSettings

OWN = ("backbone.*_Adapter.*", "backbone.patch_embed_multimodal.*", "backbone.pos_embed_*_dte")
"""Names that an RGB tracker lacks."""


def map_pretrained(config: SDSTrackConfig, network: SDSTrack, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    With MODEL.COPY_STEM the patch embedding of the second modality begins as the RGB one, where the file has none.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: A whole RGB tracker (OSTrack), whose names must all fit, a whole SDSTrack, or a ViT pre-trained on
            pictures, which fills the backbone alone.
    """
    if any(fnmatch.filter(checkpoint.state_dict, pattern) for pattern in OWN):
        return map_tracker(network, checkpoint)
    if is_tracker(checkpoint):
        mapped = map_tracker(network, checkpoint, OWN)
    else:
        mapped = map_vit(network, checkpoint, [pattern.removeprefix("backbone.") for pattern in OWN])
    if not config.model.copy_stem:
        return mapped
    stem, other, state = "backbone.patch_embed.", "backbone.patch_embed_multimodal.", dict(mapped.state_dict)
    state |= {other + name.removeprefix(stem): value for name, value in state.items() if name.startswith(stem)}
    return replace(mapped, state_dict=state)


register_method(
    Method(
        name="sdstrack",
        network_name="SDSTrack",
        config=SDSTrackConfig,
        build_network=lambda config, training: with_mask_head(
            config, SDSTrack(*backbone_and_head(config, RGBX_BACKBONES, training))
        ),
        build_objective=lambda config, network: MaskObjective() if config.mask else SDSTrackObjective(config, network),
        build_tracker=OSTrackTracker.from_config,
        reads_aux=True,
        map_pretrained=map_pretrained,
        complete=complete,
        added=MASK_HEAD,
        parts={"model.backbone": RGBX_BACKBONES, "model.head": HEADS},
    )
)
