"""GDSTrack: modality-guided graph fusion and diffusion for self-supervised RGB-T tracking (Li et al., IJCAI 2025)."""

from __future__ import annotations

import fnmatch
from dataclasses import replace

import torch
from torch import Tensor

from lib.methods.common import input_sizes
from lib.methods.gdstrack.config import GDSTrackConfig, complete
from lib.methods.gdstrack.network import GDSTrack
from lib.methods.gdstrack.objective import GDSTrackObjective
from lib.methods.gdstrack.tracker import GDSTrackTracker
from lib.methods.method import Method, register_method
from lib.models import Checkpoint, Mapped, WeightsError
from lib.models.backbones import PAIRED_VITS, STREAMS, encoder_weights, paired_weights
from lib.models.fusion import cosine_schedule
from lib.track import CropSettings

DIFFUSION = ("projector2.*", "lddiffuse_x.*", "head_diffuse.*")
UNUSED = ("backbone.*_x", "backbone.norm_x.*", "pytorch_mean", "pytorch_std", "head*.coord_[xy]")
"""Names of published files that nothing reads: a third set of the encoder's own parameters, and constants."""


def build_network(config: GDSTrackConfig, training: bool) -> GDSTrack:
    """Fresh weights; at the sizes of DATA for training, of TEST otherwise."""
    template, search = input_sizes(config, training)
    backbone = config.model.backbone.build(PAIRED_VITS, template_size=template, search_size=search)
    samples = config.test.sample if config.model.stage == "stage2" else 0
    return GDSTrack(backbone, config.model.fusion, samples, config.test.noise_level)


def map_trained(config: GDSTrackConfig, checkpoint: Checkpoint) -> Mapped:
    """The tensors of a tracker's file that its network has.

    Args:
        config: Of the experiment.
        checkpoint: A tracker; published ones also hold what is computed, and copies that nothing reads.

    Raises:
        WeightsError: The file's noise schedule is another one.
    """
    state = dict(checkpoint.state_dict)
    for name, expected in cosine_schedule().items():
        found = state.pop(f"lddiffuse_x.{name}", None)
        if found is not None and not (
            found.shape == expected.shape and torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-6)
        ):
            raise WeightsError(f"{checkpoint.path}: lddiffuse_x.{name} is not that of a cosine schedule of 1000 steps")
    unused = tuple(name for name in checkpoint.state_dict if any(fnmatch.fnmatchcase(name, p) for p in UNUSED))
    return Mapped({name: value for name, value in state.items() if name not in unused}, unused=unused)


def map_pretrained(config: GDSTrackConfig, network: GDSTrack, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: An encoder of masked appearance transfer, of pictures of any size, which fills the backbone; or a
            whole tracker, which must fit in every name but those of the diffusion.

    Raises:
        WeightsError: The file is of another method.
    """
    if any(name.startswith("GAT_Branch.") for name in checkpoint.state_dict):
        return replace(map_trained(config, checkpoint), fresh=DIFFUSION if network.noise_shape else ())
    encoder, backbone = encoder_weights(checkpoint.state_dict), network.backbone
    if not encoder:
        expected = "neither weights of masked appearance transfer nor those of GDSTrack"
        raise WeightsError(f"MODEL.PRETRAIN_FILE {checkpoint.path}: {expected}")
    state = paired_weights(encoder, backbone.grid_template, backbone.grid_search, STREAMS[1])
    return Mapped.of_part(network, "backbone.", state, ("pos_embed_p", "z_pos_embed_p"))


register_method(
    Method(
        name="gdstrack",
        network_name="GDSTrack",
        config=GDSTrackConfig,
        build_network=build_network,
        build_objective=GDSTrackObjective,
        build_tracker=lambda config, net: GDSTrackTracker(net, CropSettings.from_config(config), config.test.seed),
        reads_aux=True,
        map_trained=map_trained,
        map_pretrained=map_pretrained,
        complete=complete,
        added=DIFFUSION,
        aliases=("translate_track",),
        parts={"model.backbone": PAIRED_VITS},
    )
)
