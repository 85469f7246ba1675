"""Weights from elsewhere: the Hugging Face hub, timm models, and Flax `.npz` checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.models.safe_pickle import WeightsError

HUB, TIMM = "hf://", "timm:"
CLASSIFIER = ("head.", "head_dist.", "fc_norm.", "pre_logits.", "fc.")


def fetch_from_hub(name: str) -> Path:
    """Weights of a repository of the Hugging Face hub, downloaded unless its cache has them.

    Args:
        name: ``hf://owner/name``, whose one `.safetensors` file is taken together with its JSON; or
            ``hf://owner/name/file``. ``@revision`` may follow the name.

    Returns:
        The file in the hub's cache.

    Raises:
        WeightsError: One sentence; the package, the network, the repository or the file is not there.
    """
    named = re.fullmatch(rf"{HUB}([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?", name)
    if named is None:
        raise WeightsError(f"{name}: expected hf://OWNER/NAME or hf://OWNER/NAME/FILE")
    repository, revision, file = named.groups()
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise WeightsError(f"{name}: needs the package huggingface_hub (pip install huggingface-hub)") from None
    patterns = [file, re.sub(r"\.safetensors$", ".json", file)] if file else ["*.safetensors", "*.json"]
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{name}: the Hugging Face hub gave no weights ({reason}); without a network, name a file on disk"
        ) from error
    found = [folder / file] if file else sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "no .safetensors file"
        raise WeightsError(f"{name}: expected one file of weights, found {names}; name one as hf://OWNER/NAME/FILE")
    if not found[0].is_file():
        raise WeightsError(f"{name}: the repository {repository} has no file {file}")
    return found[0]


def weights_from_timm(name: str, pretrained: bool = True) -> dict[str, Tensor]:
    """Weights of a timm model without its classifier, under the names of our ViT and ResNet.

    Args:
        name: Such as ``vit_base_patch16_224.mae`` or ``resnet50.tv_in1k``.
        pretrained: Fetch the weights through timm, the one thing here that may use the network; False gives a fresh
            initialisation.

    Raises:
        WeightsError: The name is unknown, or the weights cannot be had.
    """
    import timm

    try:
        model = timm.create_model(name, pretrained=pretrained)
    except Exception as error:
        text = str(error).strip().splitlines()[0]
        raise WeightsError(f"timm model {name!r} cannot be made ({text}); the key can name a file instead") from error
    return {k: v.detach() for k, v in model.state_dict().items() if not k.startswith(CLASSIFIER)}


def load_flax_npz(path: str | Path) -> dict[str, Tensor]:
    """Weights of a Flax ViT checkpoint (Dosovitskiy et al., ICLR 2021) under the names of our ViT.

    Kernels are transposed to PyTorch's order, query, key and value are joined. The classifier is left out.

    Args:
        path: The `.npz` file.

    Raises:
        WeightsError: The file is missing, or is no such checkpoint.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k.removeprefix("opt/target/"): torch.from_numpy(np.asarray(file[k])) for k in file.files}
    except Exception as error:  # numpy and zipfile raise a dozen kinds
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path}: not a readable .npz file of numbers ({text:.200})") from error
    named = {"norm": "Transformer/encoder_norm"}
    depth = sum(k.endswith("LayerNorm_0/scale") for k in arrays)
    for i in range(depth):
        source, target = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        named |= {f"{target}.norm1": f"{source}/LayerNorm_0", f"{target}.norm2": f"{source}/LayerNorm_2"}
        named |= {f"{target}.mlp.fc{j + 1}": f"{source}/MlpBlock_3/Dense_{j}" for j in (0, 1)}
    try:
        weights = {
            "cls_token": arrays["cls"],
            "pos_embed": arrays["Transformer/posembed_input/pos_embedding"],
            "patch_embed.proj.weight": arrays["embedding/kernel"].permute(3, 2, 0, 1),
            "patch_embed.proj.bias": arrays["embedding/bias"],
        }
        for target, source in named.items():
            weights[f"{target}.weight"] = arrays[f"{source}/{'scale' if 'norm' in target else 'kernel'}"].t()
            weights[f"{target}.bias"] = arrays[f"{source}/bias"]
        for i in range(depth):
            source, target = f"Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1", f"blocks.{i}.attn"
            parts = [f"{source}/{part}" for part in ("query", "key", "value")]
            weights |= {
                f"{target}.qkv.weight": torch.cat([arrays[f"{part}/kernel"].flatten(1).t() for part in parts]),
                f"{target}.qkv.bias": torch.cat([arrays[f"{part}/bias"].flatten() for part in parts]),
                f"{target}.proj.weight": arrays[f"{source}/out/kernel"].flatten(0, 1).t(),
                f"{target}.proj.bias": arrays[f"{source}/out/bias"],
            }
    except KeyError as error:
        raise WeightsError(f"{path}: not a Flax vision transformer, {error.args[0]!r} is missing") from error
    except (RuntimeError, IndexError) as error:
        text = str(error).splitlines()[0]
        raise WeightsError(f"{path}: not a Flax vision transformer, its arrays have other shapes ({text})") from error
    return {k: v.contiguous() for k, v in weights.items()}
