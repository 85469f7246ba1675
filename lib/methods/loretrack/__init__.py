"""LoReTrack: OSTrack at low resolution, taught by OSTrack at high resolution (Dong et al., arXiv 2405.17660).

Network and tracker are OSTrack's without elimination. Its objective - OSTrack's losses and two terms of a frozen
teacher - is the TEACHER section that any one-stream method may have (`lib.objectives.distillation`).
"""

from __future__ import annotations

from lib.methods.loretrack.config import Config
from lib.methods.method import Method, register_method
from lib.methods.ostrack import build_network, build_objective, build_tracker, map_pretrained
from lib.models.backbones import BACKBONES
from lib.models.heads import HEADS

register_method(
    Method(
        name="loretrack",
        network_name="OSTrack",
        config=Config,
        build_network=build_network,
        build_objective=build_objective,
        build_tracker=build_tracker,
        map_pretrained=map_pretrained,
        parts={"model.backbone": BACKBONES, "model.head": HEADS},
    )
)
