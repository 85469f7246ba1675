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


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("embedding/kernel", np.zeros((3, 4)), "other shapes"),
        ("Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel", np.zeros((2, 2, 2)), "other shapes"),
        ("Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel", np.zeros(3), "other shapes"),
        ("cls", np.array(["text"]), "not a readable .npz file of numbers"),
        ("cls", np.array([{}], dtype=object), "not a readable .npz file of numbers"),
    ],
)
def test_arrays_of_other_shapes_and_kinds(tmp_path: Path, name: str, value: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", **{**flax_arrays(1), name: value})
    with pytest.raises(WeightsError, match=rf"a\.npz: .*{message}"):
        load_flax_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x10\x00{'descr': }     \n"])
def test_files_that_are_no_archives(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.npz: not a readable \.npz file of numbers"):
        load_flax_npz(tmp_path / "a.npz")


def test_timm_names() -> None:
    weights = weights_from_timm("vit_tiny_patch16_224", pretrained=False)
    assert {"cls_token", "pos_embed", "blocks.11.attn.qkv.weight", "norm.bias"} <= weights.keys()
    assert not any(k.startswith("head") for k in weights)
    with pytest.raises(WeightsError, match="no_such_vit"):
        weights_from_timm("no_such_vit", pretrained=False)
