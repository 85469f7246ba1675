"""Initial weights of TransT: a ResNet that was pre-trained on ImageNet, or a whole tracker."""

from __future__ import annotations

from pathlib import Path

from lib.methods.ostrack.pretrained import TIMM, find_pretrained
from lib.methods.transt.network import TransT
from lib.models import load_into, read_checkpoint, weights_from_timm

# What a classifier has behind the layers that TransT reads.
_ELSEWHERE = ("layer4.*", "fc.*")


def load_pretrained(network: TransT, name: str) -> None:
    """Fill the network from MODEL.PRETRAIN_FILE, strictly.

    name: a file in the `pretrained` folder (or a path) with torchvision's ResNet, ``timm:resnet50.tv_in1k`` for the
    same through timm, or a whole tracker, known by "transt" in the file's name, such as published `transt.pth`.
    Raises FileNotFoundError or WeightsError.
    """
    if name.startswith(TIMM):
        load_into(network.body, weights_from_timm(name.removeprefix(TIMM)), ignore=_ELSEWHERE, source=name)
        return
    path = find_pretrained(name)
    state = read_checkpoint(path).state_dict
    if "transt" in Path(name).stem.lower():
        load_into(network, state, source=path)
    else:
        load_into(network.body, state, ignore=_ELSEWHERE, source=path)
