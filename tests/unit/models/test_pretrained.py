"""Initial ViT weights: the Flax conversion agrees with timm's, names are those of our ViT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from lib.models import WeightsError, load_flax_npz, weights_from_timm

WIDTH, HEADS, HIDDEN = 192, 3, 768


def flax_arrays(depth: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    head = WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "cls": (1, 1, WIDTH),
        "embedding/kernel": (16, 16, 3, WIDTH),
        "embedding/bias": (WIDTH,),
        "head/kernel": (WIDTH, 1000),
        "head/bias": (1000,),
        "Transformer/posembed_input/pos_embedding": (1, 197, WIDTH),
        "Transformer/encoder_norm/scale": (WIDTH,),
        "Transformer/encoder_norm/bias": (WIDTH,),
    }
    for i in range(depth):
        block = f"Transformer/encoderblock_{i}"
        for part in ("query", "key", "value"):
            shapes[f"{block}/MultiHeadDotProductAttention_1/{part}/kernel"] = (WIDTH, HEADS, head)
            shapes[f"{block}/MultiHeadDotProductAttention_1/{part}/bias"] = (HEADS, head)
        shapes[f"{block}/MultiHeadDotProductAttention_1/out/kernel"] = (HEADS, head, WIDTH)
        shapes[f"{block}/MultiHeadDotProductAttention_1/out/bias"] = (WIDTH,)
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes[f"{block}/{norm}/scale"] = shapes[f"{block}/{norm}/bias"] = (WIDTH,)
        shapes |= {f"{block}/MlpBlock_3/Dense_0/kernel": (WIDTH, HIDDEN), f"{block}/MlpBlock_3/Dense_0/bias": (HIDDEN,)}
        shapes |= {f"{block}/MlpBlock_3/Dense_1/kernel": (HIDDEN, WIDTH), f"{block}/MlpBlock_3/Dense_1/bias": (WIDTH,)}
    return {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}


def test_flax_conversion_is_that_of_timm(tmp_path: Path) -> None:
    path = tmp_path / "vit.npz"
    np.savez(path, **flax_arrays(12))
    reference = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    reference.load_pretrained(str(path))
    expected = {k: v for k, v in reference.state_dict().items() if not k.startswith("head.")}
    found = load_flax_npz(path)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_wrong_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(WeightsError, match="not a Flax"):
        load_flax_npz(tmp_path / "other.npz")
    with pytest.raises(WeightsError, match=r"absent\.npz"):
        load_flax_npz(tmp_path / "absent.npz")


def test_timm_names() -> None:
    weights = weights_from_timm("vit_tiny_patch16_224", pretrained=False)
    assert {"cls_token", "pos_embed", "blocks.11.attn.qkv.weight", "norm.bias"} <= weights.keys()
    assert not any(k.startswith("head") for k in weights)
    with pytest.raises(WeightsError, match="no_such_vit"):
        weights_from_timm("no_such_vit", pretrained=False)
