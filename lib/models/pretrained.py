"""Initial weights of a backbone from other people's files: timm models and Flax `.npz` checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.models.inert import WeightsError

CLASSIFIER = ("head.", "head_dist.", "fc_norm.", "pre_logits.", "fc.")


def weights_from_timm(name: str, pretrained: bool = True) -> dict[str, Tensor]:
    """State dict of a timm model (``vit_base_patch16_224.mae``, ``resnet50.tv_in1k``) without its classifier.

    Names are those of our ViT and ResNet.

    pretrained: fetch the weights through timm, the one thing here that may use the network; False gives a fresh
    initialisation. Raises WeightsError for an unknown name or when the weights cannot be had.
    """
    import timm

    try:
        model = timm.create_model(name, pretrained=pretrained)
    except Exception as error:
        raise WeightsError(f"timm model {name!r} cannot be made ({str(error).strip().splitlines()[0]})") from error
    return {k: v.detach() for k, v in model.state_dict().items() if not k.startswith(CLASSIFIER)}


def load_flax_npz(path: str | Path) -> dict[str, Tensor]:
    """State dict from a Flax ViT checkpoint (An Image is Worth 16x16 Words, ICLR 2021) under the names of our ViT.

    Kernels are transposed to PyTorch's order, query, key and value are joined. The classifier is left out.
    Raises WeightsError when the file is missing or is no such checkpoint.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k.removeprefix("opt/target/"): torch.from_numpy(np.asarray(file[k])) for k in file.files}
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not a readable .npz file ({error})") from error
    try:
        return _convert_flax(arrays)
    except KeyError as error:
        raise WeightsError(f"{path}: not a Flax vision transformer, {error.args[0]!r} is missing") from error


def _convert_flax(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    def norm(source: str, target: str) -> dict[str, Tensor]:
        return {f"{target}.weight": arrays[f"{source}/scale"], f"{target}.bias": arrays[f"{source}/bias"]}

    def dense(source: str, target: str) -> dict[str, Tensor]:
        return {f"{target}.weight": arrays[f"{source}/kernel"].t(), f"{target}.bias": arrays[f"{source}/bias"]}

    weights = {
        "cls_token": arrays["cls"],
        "pos_embed": arrays["Transformer/posembed_input/pos_embedding"],
        "patch_embed.proj.weight": arrays["embedding/kernel"].permute(3, 2, 0, 1),
        "patch_embed.proj.bias": arrays["embedding/bias"],
        **norm("Transformer/encoder_norm", "norm"),
    }
    depth = sum(k.endswith("LayerNorm_0/scale") for k in arrays)
    for i in range(depth):
        source, target = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        attention = f"{source}/MultiHeadDotProductAttention_1"
        parts = ("query", "key", "value")
        weights |= {
            f"{target}.attn.qkv.weight": torch.cat([arrays[f"{attention}/{p}/kernel"].flatten(1).t() for p in parts]),
            f"{target}.attn.qkv.bias": torch.cat([arrays[f"{attention}/{p}/bias"].flatten() for p in parts]),
            f"{target}.attn.proj.weight": arrays[f"{attention}/out/kernel"].flatten(0, 1).t(),
            f"{target}.attn.proj.bias": arrays[f"{attention}/out/bias"],
            **norm(f"{source}/LayerNorm_0", f"{target}.norm1"),
            **norm(f"{source}/LayerNorm_2", f"{target}.norm2"),
            **dense(f"{source}/MlpBlock_3/Dense_0", f"{target}.mlp.fc1"),
            **dense(f"{source}/MlpBlock_3/Dense_1", f"{target}.mlp.fc2"),
        }
    return {k: v.contiguous() for k, v in weights.items()}
