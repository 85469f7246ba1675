"""MAT: representation learning for tracking by masked appearance transfer (Zhao et al., CVPR 2023); a pre-training."""

from __future__ import annotations

from dataclasses import replace

from lib.methods.data import DataParts, crop_data
from lib.methods.mat.config import MATConfig
from lib.methods.mat.network import AppearanceTransfer
from lib.methods.mat.objective import TransferObjective
from lib.methods.mat.processing import TransferProcessing
from lib.methods.method import Method, register_method
from lib.models import Checkpoint, Mapped, WeightsError
from lib.models.backbones import AUTOENCODERS, MAT_PREFIX

COMPUTED = ("pytorch_*", f"{MAT_PREFIX}*pos_embed")
"""Names whose values follow from sizes and normalisation."""
DECODER = (f"{MAT_PREFIX}decoder_*", f"{MAT_PREFIX}mask_token")


def build_network(config: MATConfig, training: bool) -> AppearanceTransfer:
    """Fresh weights, at the sizes of DATA."""
    data, model = config.data, config.model
    sizes = {"template_size": data.template.size, "search_size": data.search.size}
    return AppearanceTransfer(model.backbone.build(AUTOENCODERS, **sizes), model.mask_ratio, data.mean, data.std)


def build_data(config: MATConfig, training: bool) -> DataParts:
    """Pairs of frames, and templates cut from search regions."""
    return replace(crop_data(config, training), transform=TransferProcessing(config.data, training))


def map_pretrained(config: MATConfig, network: AppearanceTransfer, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE; position tables are computed, not read.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: MAE's weights, with its decoder or without, or those of a pre-training of any picture size.

    Raises:
        WeightsError: The file is of another method.
    """
    state = checkpoint.state_dict
    fresh: tuple[str, ...] = COMPUTED
    if f"{MAT_PREFIX}z_patch_embed.proj.weight" not in state:
        if not {"patch_embed.proj.weight", "cls_token", "norm.weight"} <= state.keys():
            raise WeightsError(
                f"MODEL.PRETRAIN_FILE {checkpoint.path}: neither MAE's weights nor those of masked appearance transfer"
            )
        state = {MAT_PREFIX + name: v for name, v in state.items()}
        fresh += (f"{MAT_PREFIX}z_patch_embed.*", *(() if f"{MAT_PREFIX}mask_token" in state else DECODER))
    taken = {name: v for name, v in state.items() if not name.endswith("pos_embed") and not name.startswith("pytorch_")}
    own = network.state_dict().keys()
    return Mapped({n: v for n, v in taken.items() if n in own}, fresh, tuple(n for n in taken if n not in own))


register_method(
    Method(
        name="mat",
        network_name="MAT",
        config=MATConfig,
        build_network=build_network,
        build_objective=TransferObjective,
        build_data=build_data,
        map_pretrained=map_pretrained,
        aliases=("translate_template",),
        parts={"model.backbone": AUTOENCODERS},
    )
)
