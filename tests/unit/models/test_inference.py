"""Networks prepared for inference give what they gave before, with fewer operations, and leave the original alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.bench import counting
from lib.data import Frame, Normalise
from lib.deploy import AutocastTracker, Inference, fuse_network, prepare, reads_pixels
from lib.machine import keep_choice, kept_choices
from lib.methods.ostrack import OSTrack, OSTrackTracker
from lib.models.backbones import OneStreamViT, ViTOptions
from lib.models.heads import CenterHead, CornerHead
from lib.models.layers import (
    FuseOptions,
    Product,
    attention_by_products,
    convolution_norm,
    packed_products_win,
    packing_works,
)
from lib.track import CropSettings

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALISE = Normalise(MEAN, STD)
DEPTH, TEMPLATE, SEARCH = 4, 64, 128
needs_onednn = pytest.mark.skipif(not packing_works(torch.float32), reason="this PyTorch has no oneDNN")


def network(
    eliminating: bool = False,
    conv_stem: bool = False,
    head: Callable[[int, int], nn.Module] = CenterHead,
    depth: int = DEPTH,
) -> OSTrack:
    """Small, with weights that are nowhere neutral: shifted norms, biases, position embeddings."""
    torch.manual_seed(3)
    where, ratios = ((1, 2), (0.7, 0.7)) if eliminating else ((), ())
    sizes = (48, depth, 3, 16, TEMPLATE, SEARCH, 0.1)
    options = ViTOptions(*sizes, where, ratios, conv_stem=conv_stem, from_scratch=True)
    net = OSTrack(OneStreamViT(options), head(48, 32))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1 or "pos_embed" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        for name, buffer in net.named_buffers():
            if "running_mean" in name:
                buffer.normal_(std=0.2)
            elif "running_var" in name:
                buffer.uniform_(0.5, 2.0)
    return net.eval()


def pictures(batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    sizes = (TEMPLATE, SEARCH)
    template, search = (torch.randint(0, 256, (batch, 3, s, s), dtype=torch.uint8, generator=generator) for s in sizes)
    search[..., SEARCH // 2 :] = 0  # as beyond the edge of a frame
    return template, search


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "parts", [{}, {"eliminating": True}, {"conv_stem": True}, {"head": CornerHead}], ids=lambda p: "".join(p) or "plain"
)
@torch.no_grad()
def test_a_prepared_network_gives_the_same_maps(parts: dict[str, object], batch: int, pack: bool) -> None:
    net = network(**parts)  # type: ignore[arg-type]
    template, search = pictures(batch)
    expected = net(NORMALISE(template), NORMALISE(search))
    for plan in (FuseOptions(pixels=NORMALISE, pack=pack, grid=8), FuseOptions(pack=pack)):
        quick = fuse_network(net, plan)
        assert reads_pixels(quick) == (plan.pixels is not None)
        found = quick(template, search) if plan.pixels else quick(NORMALISE(template), NORMALISE(search))
        assert difference(found.tokens.search, expected.tokens.search) < 1e-5
        assert difference(found.feature, expected.feature) < 1e-5
        ours, theirs = found.candidates, expected.candidates
        assert ours.maps.keys() == theirs.maps.keys()
        for a, b in ((ours.scores, theirs.scores), (ours.boxes, theirs.boxes)):
            assert difference(a, b) < 1e-5
        assert all(difference(ours.maps[name], theirs.maps[name]) < 1e-5 for name in theirs.maps)


def test_attention_in_two_products_is_attention() -> None:
    q, k, v = torch.randn(3, 2, 3, 20, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    found = attention_by_products(q, k, v)
    torch.testing.assert_close(found, torch.nn.functional.scaled_dot_product_attention(q, k, v))


@torch.no_grad()
def test_bfloat16_is_near_and_its_maps_are_float32() -> None:
    net = network()
    template, search = pictures()
    expected = net(NORMALISE(template), NORMALISE(search)).candidates
    found = fuse_network(net, FuseOptions(torch.bfloat16, NORMALISE, grid=8))(template, search).candidates
    assert found.scores.dtype == found.boxes.dtype == torch.float32
    assert 0 < difference(found.maps["size_map"], expected.maps["size_map"]) < 0.05
    assert difference(found.scores, expected.scores) < 0.05


def test_the_original_goes_on_as_it_was() -> None:
    net = network()
    names, weights = list(net.state_dict()), {k: v.clone() for k, v in net.state_dict().items()}
    template, search = pictures()
    quick = fuse_network(net, FuseOptions(torch.bfloat16, NORMALISE))
    with torch.no_grad():
        quick(template, search)
    assert list(net.state_dict()) == names
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    net.train()
    net(NORMALISE(template), NORMALISE(search)).candidates.scores.sum().backward()
    assert net.backbone.blocks[0].get_submodule("attn.qkv").get_parameter("weight").grad is not None


def test_preparing_draws_no_random_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing was timed there
    packing_works.cache_clear()
    packed_products_win.cache_clear()
    torch.manual_seed(5)
    fuse_network(net)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_a_network_that_learns_in_eval_mode_keeps_inputs_of_convolutions_alone() -> None:
    torch.manual_seed(0)
    kept: list[list[Tensor]] = []
    found = []
    convolution, norm = torch.nn.Conv2d(3, 8, 3, stride=2, bias=False), torch.nn.BatchNorm2d(8).eval()
    torch.nn.init.uniform_(norm.weight)
    torch.nn.init.uniform_(norm.bias)
    norm.running_mean, norm.running_var = torch.randn(8), torch.rand(8) + 0.5
    for call in (lambda x: norm(convolution(x)), lambda x: convolution_norm(x, convolution, norm)):
        x = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(0)).requires_grad_()
        kept.append([])
        with torch.autograd.graph.saved_tensors_hooks(lambda s: (kept[-1].append(s), s)[1], lambda s: s):
            y = call(x)
        y.square().sum().backward()
        parameters = [*convolution.parameters(), *norm.parameters()]
        found.append([y.detach(), x.grad, *(p.grad.clone() for p in parameters if p.grad is not None)])
        convolution.zero_grad()
        norm.zero_grad()
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert any(tensor.numel() == 2 * 8 * 32 * 32 for tensor in kept[0])
    assert {tensor.data_ptr() for tensor in kept[1]} <= {tensor.data_ptr() for tensor in (x, *parameters)}


def test_a_network_in_training_is_not_prepared() -> None:
    with pytest.raises(ValueError, match="eval mode"):
        fuse_network(network().train())


def operations(net: OSTrack, search: Tensor, template: Tensor) -> int:
    with torch.no_grad():
        tokens = net.encode_template(template)
        with counting() as cost:
            net.locate(tokens, search)
    return cost.kernels


@needs_onednn
def test_what_is_quicker_is_timed_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    packed_products_win.cache_clear()
    packed_products_win(torch.float32)
    ((key, _),) = kept_choices().items()
    for packed in (True, False):
        keep_choice(key, packed)
        packed_products_win.cache_clear()
        layer = next(m for m in fuse_network(network()).modules() if isinstance(m, Product))
        assert layer.packed == packed
    packed_products_win.cache_clear()


@needs_onednn
def test_a_fused_block_is_eight_operations() -> None:
    """benchmarks/operations.py prints those of whole networks. GELU is one more unless products are packed."""
    template, search = pictures()
    count = [
        operations(fuse_network(network(depth=d), FuseOptions(pixels=NORMALISE, grid=8)), search, template)
        for d in (1, 3)
    ]
    assert count[1] - count[0] == 2 * (8 if packed_products_win(torch.float32) else 9)


@pytest.mark.parametrize("eliminating", [False, True])
def test_a_prepared_tracker_gives_the_same_boxes(eliminating: bool) -> None:
    rng = np.random.default_rng(0)
    frames = [Frame(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)) for _ in range(8)]
    boxes = torch.tensor([[60.0, 40.0, 30.0, 24.0], [5.0, 80.0, 40.0, 35.0]])

    def run(prepared: bool) -> Tensor:
        settings = CropSettings(TEMPLATE, 2.0, SEARCH, 4.0, MEAN, STD)
        tracker = OSTrackTracker(network(eliminating), settings)
        if prepared:
            tracker = prepare(tracker)
        state = tracker.init(frames[:1] * 2, boxes)
        found = []
        for frame in frames[1:]:
            state, prediction = tracker.step(state, [frame] * 2)
            found.append(prediction.boxes_xywh)
        return torch.stack(found)

    torch.testing.assert_close(run(True), run(False), rtol=1e-4, atol=1e-3)


def test_half_formats_that_are_not_folded_are_left_to_autocast() -> None:
    tracker = OSTrackTracker(network(), CropSettings(TEMPLATE, 2.0, SEARCH, 4.0, MEAN, STD))
    before = tracker.network
    assert isinstance(prepare(tracker, Inference(torch.float16)), AutocastTracker)
    assert tracker.network is before
