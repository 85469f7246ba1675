"""Networks in 8 bits: linear layers and convolutions whose inputs and weights are int8, everything else in float32.

Ranges of inputs are fixed in advance, one per layer, from what the layer saw while the network ran on sample data; so
a row of a batch gives what it gives alone. Weights have one scale per output channel. Before that, layer norms take
over part of the differences between channels (SmoothQuant, Xiao et al., ICML 2023, with alpha 1/2), since one range for
a whole layer suits channels of like size.

The result is a torch module that computes in float32 with rounded numbers. Exported, its roundings become
QuantizeLinear and DequantizeLinear, from which runtimes make products of 8-bit numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data import Frame, Video
from lib.data.datasets import build_dataset
from lib.deploy.engines import EngineError
from lib.models.adapters.adapted_block import AdaptedBlock
from lib.models.layers.blocks import Block
from lib.models.layers.fused import Convolution, finished
from lib.paths import Paths
from lib.track import OneStreamTracker

M = TypeVar("M", bound=nn.Module)
NARROW = 32
"""Layers with fewer inputs or outputs stay in float32: they cost little."""
_INT8, _UINT8 = (-128, 127, torch.int8), (0, 255, torch.uint8)
SEQUENCES, FRAMES = 12, 4
PROCEDURAL = {False: "SYNTHETIC:seed=880001,sequences=12,length=24", True: "SYNTHETIC:rgbt,seed=880001,sequences=12"}
"""Default data set for calibration, RGB and RGB-X; nothing has to be downloaded."""


@dataclass(frozen=True)
class CalibrationClip:
    """A target in a few frames, from which a network's layers get their ranges.

    Attributes:
        frames: N frames; the first one shows the target at boxes_xywh[0].
        boxes_xywh: [N, 4] float64, image pixels.
    """

    frames: Sequence[Frame]
    boxes_xywh: Tensor


def calibration_clips(name: str, paths: Paths) -> list[CalibrationClip]:
    """Clips of `FRAMES` frames from up to `SEQUENCES` videos, evenly spread over a data set.

    Args:
        name: As in DATASETS_NAME of a training configuration.
        paths: Folders of this machine.

    Raises:
        EngineError: No video has enough frames with a visible target.
    """
    dataset = build_dataset(name, paths)
    clips = []
    for index in np.linspace(0, len(dataset) - 1, min(SEQUENCES, len(dataset))).round().astype(int):
        video: Video = dataset[int(index)]
        boxes = video.boxes_xywh
        usable = video.valid & video.visible & np.isfinite(boxes).all(1) & (boxes[:, 2:] > 4).all(1)
        visible = np.flatnonzero(usable)
        if len(visible) >= FRAMES:
            chosen = visible[np.linspace(0, len(visible) - 1, FRAMES).round().astype(int)]
            frames = [video.read_frame(int(i)) for i in chosen]
            clips.append(CalibrationClip(frames, torch.from_numpy(boxes[chosen].copy())))
    if not clips:
        raise EngineError(f"--calibration {name}: no video has {FRAMES} frames with a visible target")
    return clips


def calibrate(tracker: OneStreamTracker, clips: Sequence[CalibrationClip]) -> dict[str, ChannelRange]:
    """Input ranges of the network's layers from tracking clips.

    Every frame is searched where its target is, whatever was found in the frame before.

    Args:
        tracker: Its network is fused with ``FuseOptions(portable=True)``.
        clips: Sample data.

    Returns:
        Ranges by layer name.
    """
    with record_ranges(tracker.network) as ranges:
        for clip in clips:
            state = tracker.init(clip.frames[:1], clip.boxes_xywh[:1])
            for i in range(1, len(clip.frames)):
                state, _ = tracker.step(replace(state, boxes_xywh=clip.boxes_xywh[i : i + 1]), [clip.frames[i]])
    return ranges


@dataclass
class ChannelRange:
    """Least and greatest value of every input channel."""

    low: Tensor
    high: Tensor

    def add(self, x: Tensor) -> None:
        """Widen the range.

        Args:
            x: [..., C] input of the layer.
        """
        flat = x.detach().flatten(0, -2).float()
        self.low, self.high = torch.minimum(self.low, flat.amin(0)), torch.maximum(self.high, flat.amax(0))

    def scaled(self, factor: Tensor) -> ChannelRange:
        return ChannelRange(self.low * factor, self.high * factor)


@contextmanager
def record_ranges(network: nn.Module) -> Iterator[dict[str, ChannelRange]]:
    """While it is open, the inputs of all layers that could be in 8 bits are recorded under the layers' names.

    Layers of modules with a true attribute `exact` stay as they are.
    """
    ranges: dict[str, ChannelRange] = {}

    def record(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].movedim(1, -1) if isinstance(module, Convolution) else args[0]
        if name not in ranges:
            ranges[name] = ChannelRange(*torch.zeros(2, x.shape[-1]).unbind(0))
        ranges[name].add(x)

    exact = tuple(f"{name}." for name, module in network.named_modules() if getattr(module, "exact", False))
    named = [(name, module) for name, module in network.named_modules() if not f"{name}.".startswith(exact)]
    layers = [(name, module) for name, module in named if _is_suitable(module)]
    handles = [module.register_forward_pre_hook(partial(record, name)) for name, module in layers]
    try:
        yield ranges
    finally:
        for handle in handles:
            handle.remove()


def _is_suitable(module: nn.Module) -> bool:
    """True for layers that 8 bits make quicker without much loss."""
    if isinstance(module, Convolution):
        # A last layer has no ReLU; its maps are compared and become boxes.
        inputs = module.weight.shape[1] * module.groups
        return module.relu and not module.packed and min(inputs, len(module.weight)) >= NARROW
    return type(module) is nn.Linear and min(module.weight.shape) >= NARROW


@torch.no_grad()
def quantise(network: M, ranges: dict[str, ChannelRange]) -> M:
    """Turn a network's layers into 8 bits; those without recorded range stay in float32.

    Args:
        network: Fused with ``FuseOptions(portable=True)``. Its module tree is changed in place, its weights, which may
            be shared, are not.
        ranges: From `calibrate` or `record_ranges`.

    Returns:
        The same network.

    Raises:
        EngineError: Nothing was recorded.
    """
    if not ranges:
        kinds = f"linear, or convolution and ReLU, of {NARROW} channels"
        raise EngineError(f"the network has no layer for 8 bits ({kinds})")
    for name, block in network.named_modules():
        if type(block) in (Block, AdaptedBlock):
            _smooth(block, name, ranges)
    for name, module in list(network.named_modules()):
        if name in ranges:
            parent, _, leaf = name.rpartition(".")
            kind: type[Any] = Convolution8 if isinstance(module, Convolution) else Linear8
            network.get_submodule(parent).register_module(leaf, kind(module, ranges[name]))
    return network


def _smooth(block: Block, name: str, ranges: dict[str, ChannelRange]) -> None:
    """Move scales from the inputs of a block's layers behind a norm or a product into these."""
    dot = f"{name}." if name else ""
    attn = block.attn
    adapters = ("MLP_X_DTE_Adapter.D_fc1", "MLP_X_X_DTE_Adapter.D_fc1") if isinstance(block, AdaptedBlock) else ()
    for norm, readers in ((block.norm1, ["attn.qkv"]), (block.norm2, ["mlp.fc1", *adapters])):
        keys = [f"{dot}{reader}" for reader in readers]
        if keys[0] not in ranges:
            continue
        layers = [cast("nn.Linear", block.get_submodule(reader)) for reader in readers]
        scale = _balance(ranges[keys[0]], layers[0].weight)
        norm.weight, norm.bias = _fixed(norm.weight / scale), _fixed(norm.bias / scale)
        for key, layer in zip(keys, layers, strict=True):
            layer.weight = _fixed(layer.weight * scale)
            if key in ranges:
                ranges[key] = ranges[key].scaled(1 / scale)
    key = f"{dot}attn.proj"
    if key in ranges:
        scale = _balance(ranges[key], attn.proj.weight)
        ranges[key] = ranges[key].scaled(1 / scale)
        attn.proj.weight = _fixed(attn.proj.weight * scale)
        shrink = torch.cat([torch.ones(2 * len(scale)), 1 / scale])
        attn.qkv.weight, attn.qkv.bias = _fixed(attn.qkv.weight * shrink[:, None]), _fixed(attn.qkv.bias * shrink)


def _balance(ranges: ChannelRange, weight: Tensor) -> Tensor:
    """Scales that even out the channels of a layer's input (SmoothQuant, equation 4, alpha 1/2).

    Args:
        ranges: Of the input's K channels.
        weight: [N, K].

    Returns:
        [K] divisor of the inputs and factor of the weight's columns, of geometric mean 1.
    """
    x = torch.maximum(-ranges.low, ranges.high).clamp_min(1e-5)
    w = weight.abs().amax(0).clamp_min(1e-5)
    scale = (x / w).sqrt()
    return scale / scale.log().mean().exp()


def _fixed(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


class _Rounding(nn.Module):
    """Values of a known range, rounded to 8 bits: unsigned where they are lopsided, else signed around zero."""

    def __init__(self, ranges: ChannelRange) -> None:
        super().__init__()
        low, high = min(float(ranges.low.min()), 0.0), max(float(ranges.high.max()), 1e-5)
        lopsided = -low < 0.5 * high
        self.low, self.high, self.dtype = _UINT8 if lopsided else _INT8
        self.scale = (high - low) / 255 if lopsided else max(-low, high) / 127
        self.zero = round(-low / self.scale) if lopsided else 0

    def forward(self, x: Tensor) -> Tensor:
        ops, grid = _ops(), (self.scale, self.zero, self.low, self.high, self.dtype)
        rounded: Tensor = ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *grid), *grid)
        return rounded


class _Weight(nn.Module):
    """A weight in 8 bits with one scale per index of `axis`."""

    values: Tensor
    scales: Tensor
    zeros: Tensor

    def __init__(self, weight: Tensor, axis: int) -> None:
        super().__init__()
        others = [i for i in range(weight.ndim) if i != axis]
        scales = weight.abs().amax(others).clamp_min(1e-8) / 127
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        self.axis = axis
        values = (weight / scales.view(shape)).round().clamp(-127, 127).to(torch.int8)
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("zeros", torch.zeros(len(scales), dtype=torch.int8), persistent=False)

    def forward(self) -> Tensor:
        held = (self.values, self.scales, self.zeros, self.axis)
        return cast("Tensor", _ops().dequantize_per_channel(*held, *_INT8))


class Linear8(nn.Module):
    """A linear layer in 8 bits; its weight lies transposed, as runtimes expect the second factor of a product."""

    def __init__(self, layer: nn.Linear, ranges: ChannelRange) -> None:
        super().__init__()
        self.rounding = _Rounding(ranges)
        self.weight = _Weight(layer.weight.t().contiguous(), 1)
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            x: [..., K] float32.

        Returns:
            [..., N] float32.
        """
        y = self.rounding(x) @ self.weight()
        return y if self.bias is None else y + self.bias


class Convolution8(nn.Module):
    """A `Convolution` in 8 bits; what is added to it is not."""

    bias: Tensor | None

    def __init__(self, layer: Convolution, ranges: ChannelRange) -> None:
        super().__init__()
        self.relu, self.sliding = layer.relu, layer.sliding
        self.rounding = _Rounding(ranges)
        self.weight = _Weight(layer.weight, 0)
        self.register_buffer("bias", layer.bias, persistent=False)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Compute the layer.

        Args:
            x: [B, C, H, W] float32.
            shortcut: Added to the result before ReLU, of its shape.
        """
        return finished(F.conv2d(self.rounding(x), self.weight(), self.bias, *self.sliding), shortcut, self.relu)


def _ops() -> Any:
    """PyTorch's reference operators of quantisation."""
    import torch.ao.quantization.fx._decomposed

    return torch.ops.quantized_decomposed


def onnx_functions() -> dict[Any, Any]:
    """The ONNX form of an operator that onnxscript does not know before 0.7.2, for `torch.onnx.export`."""
    from onnxscript import opset18

    def dequantize(values: Any, scales: Any, zeros: Any, axis: int, low: int, high: int, dtype: int) -> Any:
        return opset18.DequantizeLinear(values, scales, zeros, axis=axis)

    return {_ops().dequantize_per_channel.default: dequantize}
