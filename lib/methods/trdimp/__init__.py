"""TrDiMP: a filter learned online, on features of a transformer (Wang et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from lib.methods.method import Method, register_method
from lib.methods.trdimp.config import TrDiMPConfig, TrDiMPTest
from lib.methods.trdimp.network import ImageFeatures, TrDiMP
from lib.methods.trdimp.objective import ProposalLoss, TrDiMPObjective
from lib.methods.trdimp.tracker import TrDiMPRegion, TrDiMPState, TrDiMPTemplate, TrDiMPTracker
from lib.models import Checkpoint, Mapped, WeightsError
from lib.models.backbones import RESNETS

CLASSIFIER = ("layer4.*", "fc.*")
"""Names of a ResNet behind the layers that TrDiMP reads."""
LEFT_OUT = (*(f"feature_extractor.{name}" for name in CLASSIFIER), "*.head.0.WV.*")
"""Names of published files that nothing reads."""
TWICE = "classifier.transformer.encoder.layers.0.self_attn.", "classifier.transformer.decoder.layers.0.self_attn."
"""Two names of one module in published files."""
CHECKPOINTED = 4
"""Crops that the backbone computes again together; see `ResNet.checkpointing`."""


def build_network(config: TrDiMPConfig, training: bool) -> TrDiMP:
    """Fresh weights; at the size of DATA for training, of TEST otherwise."""
    model, size = config.model, config.data.search.size if training else config.test.search_size
    widths = model.classification_dim, model.key_dim, model.box_dim
    backbone = model.backbone.build(RESNETS)
    backbone.checkpointing = CHECKPOINTED if training and config.train.activation_checkpointing else 0
    return TrDiMP(backbone, size, *widths, iterations=model.iterations)


def map_trained(config: TrDiMPConfig, checkpoint: Checkpoint) -> Mapped:
    """A trained TrDiMP: what no frame needs is left out, and the attention with two names is one.

    Where its two copies differ the decoder's is taken, as in the official code, which loads it last.
    """
    (twin, kept), state = TWICE, checkpoint.state_dict
    if not any(n.startswith("classifier.transformer.") for n in state):
        filters = any(n.startswith("classifier.") for n in state)
        kind = "a DiMP, whose filter has no transformer" if filters else "no TrDiMP"
        raise WeightsError(f"{checkpoint.path}: the file holds {kind}; names classifier.transformer.* were expected")
    unused = tuple(n for n in state if any(fnmatchcase(n, p) for p in LEFT_OUT))
    copies = {n: kept + n.removeprefix(twin) for n in state if n.startswith(twin) and n not in unused}
    differ = [n for n, other in copies.items() if other in state and not torch.equal(state[n], state[other])]
    notes = tuple(
        f"{n} differs from {copies[n]}, with which it should be one tensor; the latter was taken" for n in differ
    )
    alone = {other: state[n] for n, other in copies.items() if other not in state}
    given = {n: v for n, v in state.items() if n not in copies and n not in unused}
    return Mapped({**given, **alone}, unused=unused, notes=notes)


def map_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights under the names of published files; those that nothing reads are not among them."""
    (twin, kept) = TWICE
    return {**state, **{twin + n.removeprefix(kept): v for n, v in state.items() if n.startswith(kept)}}


def map_pretrained(config: TrDiMPConfig, network: TrDiMP, checkpoint: Checkpoint) -> Mapped:
    """Key map of MODEL.PRETRAIN_FILE.

    Args:
        config: Of the experiment.
        network: To be filled.
        checkpoint: A ResNet trained on ImageNet, torchvision's or timm's, which fills the backbone, or a whole tracker,
            which must fit in every name.
    """
    if any(name.startswith("classifier.") for name in checkpoint.state_dict):
        return map_trained(config, checkpoint)
    if "conv1.weight" not in checkpoint.state_dict:
        raise WeightsError(f"MODEL.PRETRAIN_FILE {checkpoint.path}: neither a ResNet nor a whole TrDiMP")
    return Mapped.of_part(network, "feature_extractor.", checkpoint.state_dict, elsewhere=CLASSIFIER)


register_method(
    Method(
        name="trdimp",
        network_name="DiMPnet",
        config=TrDiMPConfig,
        build_network=build_network,
        build_objective=TrDiMPObjective,
        build_tracker=TrDiMPTracker.from_config,
        build_auxiliary=lambda config, network: ProposalLoss(network, config.train),
        map_trained=map_trained,
        map_published=map_published,
        map_pretrained=map_pretrained,
        aliases=("slt_trdimp",),
        parts={"model.backbone": RESNETS},
    )
)
