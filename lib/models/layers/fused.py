"""Layers whose weights no longer change: fused with what follows them, and packed for oneDNN on processors.

A module that has a quicker, equal form for fixed weights offers ``fuse_for_inference(options) -> nn.Module``;
`lib.deploy.fuse_network` puts these forms into a copy of a network.

oneDNN's operators are reached through `torch.ops.mkldnn`, as PyTorch's own compiler does. They are tried once against
plain PyTorch; where they are missing or differ, the plain layers are used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data import Normalise

M = TypeVar("M", bound=nn.Module)
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "gelu": F.gelu, "relu": F.relu}
_ONE_AT = {"gelu": 1.1444507183528787, "relu": 1.0}
"""Where exact GELU, and ReLU, are 1."""


@dataclass(frozen=True)
class FuseOptions:
    """Options of a network's form for inference.

    dtype: of the products. pixels: the normalisation to fold into the first layers, which then read uint8 pictures;
    None leaves it outside. pack: lay weights out for this processor, where `packing_works`; not for networks that are
    compiled or exported, whose compiler does the like. grid: side of the maps that convolutions will see; weights are
    laid out for it, and maps of other sizes may be slow. portable: for the compiler of another runtime, which fuses by
    itself and is best given plain layers; only what takes knowledge of the weights is done here.
    """

    dtype: torch.dtype = torch.float32
    pixels: Normalise | None = None
    pack: bool = True
    grid: int = 16
    portable: bool = False

    def packs(self, weight: Tensor) -> bool:
        return self.pack and weight.device.type == "cpu"


@runtime_checkable
class Fusable(Protocol):
    """A module with a quicker form for fixed weights."""

    def fuse_for_inference(self, options: FuseOptions) -> nn.Module:
        """Same inputs (except for `options.pixels`) and outputs up to rounding; the module itself stays unchanged."""


def fuse_module(module: nn.Module, options: FuseOptions) -> nn.Module:
    """The module's fused form, or a copy whose children are in theirs."""
    return module.fuse_for_inference(options) if isinstance(module, Fusable) else with_fused_children(module, options)


def with_fused_children(module: M, options: FuseOptions) -> M:
    """A copy of `module` whose children are fused and whose own weights have the options' number format."""
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else fuse_module(child, options) for name, child in module._modules.items()
    }
    twin._parameters = {
        name: None if value is None else nn.Parameter(value.detach().to(options.dtype), requires_grad=False)
        for name, value in module._parameters.items()
    }
    twin._buffers = {
        name: value.to(options.dtype) if value is not None and value.is_floating_point() else value
        for name, value in module._buffers.items()
    }
    return twin


class Product(nn.Module):
    """``act(x W^T + b)`` for x [..., K]; act is "none", "relu" or (exact) "gelu"."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, options: FuseOptions, act: str = "none") -> None:
        super().__init__()
        self.act = act
        self.packed = options.packs(weight)
        weight = weight.detach().to(options.dtype)
        _hold(self, _onednn()._reorder_linear_weight(weight) if self.packed else weight, bias, options)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed:
            return _linear(x, self.weight, self.bias, self.act)
        return _ACTIVATIONS[self.act](F.linear(x, self.weight, self.bias))


class ResidualProduct(nn.Module):
    """``stream + x W^T + b`` for x [..., K] and stream [..., C]; the stream is overwritten."""

    def __init__(self, weight: Tensor, bias: Tensor | None, options: FuseOptions) -> None:
        super().__init__()
        self.product = Product(weight, bias, options)

    def forward(self, stream: Tensor, x: Tensor) -> Tensor:
        return stream.add_(self.product(x))


class ResidualMlp(nn.Module):
    """``stream + act(x W1^T + b1) W2^T + b2`` in two operations, for x and stream [B, N, C]; overwrites the stream.

    A product can add to the stream or have a bias, but not both at full speed. So the hidden layer gets a unit that is
    constant, and its outgoing weights are b2. The padding keeps the hidden width a multiple of what vector units like.
    """

    PADDING = 16
    down: Tensor

    def __init__(
        self, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, options: FuseOptions, act: str = "gelu"
    ) -> None:
        super().__init__()
        up, bias, down = (t.detach().to(options.dtype) for t in (up, up_bias, down))
        constant = bias.new_tensor(_ONE_AT[act])
        extra, outgoing = bias.new_zeros(self.PADDING), down.new_zeros(len(down), self.PADDING)
        extra[0] = constant
        outgoing[:, 0] = down_bias.detach().float() / _ACTIVATIONS[act](constant).float()
        self.up = Product(F.pad(up, (0, 0, 0, self.PADDING)), torch.cat([bias, extra]), options, act)
        down = torch.cat([down, outgoing], dim=1)
        self.packed = options.packs(down)
        self.register_buffer("down", _onednn()._reorder_linear_weight(down) if self.packed else down, persistent=False)

    def forward(self, stream: Tensor, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if self.packed:
            y: Tensor = _onednn()._linear_pointwise(hidden, stream, self.down, None, "add")
            return y
        stream.view(-1, stream.shape[-1]).addmm_(hidden.flatten(0, 1), self.down.t())
        return stream


class Convolution(nn.Module):
    """Square convolution, then optionally a sum and ReLU; with stride 1 it keeps the size. Maps are channels-last."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        options: FuseOptions,
        relu: bool = False,
        groups: int = 1,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.relu = relu
        self.sliding = Sliding(stride, dilation * (weight.shape[-1] // 2), dilation, groups)
        self.packed = options.packs(weight)
        weight = weight.detach().to(options.dtype)
        _hold(self, _pack_convolution(weight, self.sliding, options.grid) if self.packed else weight, bias, options)

    @property
    def groups(self) -> int:
        return self.sliding.groups

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """x [B, C, H, W]; shortcut is added to the result, before the ReLU."""
        if not self.packed:
            return finished(self.sliding(x, self.weight, self.bias), shortcut, self.relu)
        if shortcut is None:
            return self._packed(x, self.relu)
        if x.dtype != torch.float32:  # oneDNN's operator with a sum refuses bfloat16
            return finished(self._packed(x, False), shortcut, self.relu)
        act = "relu" if self.relu else None
        y: Tensor = _onednn()._convolution_pointwise.binary(
            x, shortcut, self.weight, self.bias, *self.sliding.lists(), "add", 1.0, act, [], ""
        )
        return y

    def _packed(self, x: Tensor, relu: bool) -> Tensor:
        act = "relu" if relu else "none"
        y: Tensor = _onednn()._convolution_pointwise(x, self.weight, self.bias, *self.sliding.lists(), act, [], "")
        return y


@dataclass(frozen=True)
class Sliding:
    """Stride, padding, dilation and groups of a square convolution."""

    stride: int
    padding: int
    dilation: int
    groups: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def lists(self) -> tuple[list[int], list[int], list[int], int]:
        """As oneDNN's operators take it: padding, stride, dilation, groups."""
        return [self.padding] * 2, [self.stride] * 2, [self.dilation] * 2, self.groups


def finished(x: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    """What comes after a convolution, in place."""
    x = x if shortcut is None else x.add_(shortcut)
    return x.relu_() if relu else x


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys, values, each [B, heads, N, d] -> [B, heads, N, d]."""


def attention(options: FuseOptions, device: torch.device) -> Attend:
    """The quicker softmax attention for a options: fused, or on processors in bfloat16 as two products.

    PyTorch's fused kernel is made for long sequences and, without AMX, takes twice as long as the products do.
    """
    apart = options.pack and device.type == "cpu" and options.dtype == torch.bfloat16 and not _has_amx()
    return attention_by_products if apart else F.scaled_dot_product_attention


def attention_by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention with its whole map between two products."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1) @ v


def _has_amx() -> bool:
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return check is not None and bool(check())


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that includes the batch norm behind it."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    weight = convolution.weight.double() * scale[:, None, None, None]
    bias = shift if convolution.bias is None else convolution.bias.double() * scale + shift
    return weight.to(convolution.weight.dtype).detach(), bias.to(convolution.weight.dtype).detach()


def _hold(module: nn.Module, weight: Tensor, bias: Tensor | None, options: FuseOptions) -> None:
    module.register_buffer("weight", weight, persistent=False)
    module.register_buffer("bias", None if bias is None else bias.detach().to(options.dtype), persistent=False)


def _onednn() -> Any:
    return torch.ops.mkldnn


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, act: str) -> Tensor:
    y: Tensor = _onednn()._linear_pointwise(x, weight, bias, act, [], "none" if act == "gelu" else "")
    return y


def _pack_convolution(weight: Tensor, sliding: Sliding, grid: int) -> Tensor:
    size = [1, weight.shape[1] * sliding.groups, grid, grid]
    packed: Tensor = torch.ops.aten.mkldnn_reorder_conv2d_weight(
        weight.contiguous().to_mkldnn(), *sliding.lists(), size
    )
    return packed


@cache
def packing_works(dtype: torch.dtype) -> bool:
    """True if oneDNN's fused operators are available and agree with plain PyTorch in this number format."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 5, 32), (1, 5, 16), (16, 32), (16,), (12, 8, 3, 3), (1, 16, 6, 4))
    x, stream, weight, bias, kernel, picture = (torch.randn(shape, generator=generator) for shape in shapes)
    picture = picture.to(dtype, memory_format=torch.channels_last)
    x, stream = x.to(dtype), stream.to(dtype)

    def results(options: FuseOptions) -> list[Tensor]:
        return [
            Product(weight, bias, options)(x),
            Product(weight, bias, options, "relu")(x),
            ResidualMlp(weight, bias, weight[:, :16], bias, options)(stream.clone(), x),
            Convolution(kernel, bias[:12], options, relu=True, groups=2)(picture),
            Convolution(kernel, bias[:12], options, True, 2, stride=2, dilation=2)(picture, picture[:, :12, ::2, ::2]),
        ]

    with torch.no_grad():
        try:
            found = results(FuseOptions(dtype, pack=True))
        except (RuntimeError, AttributeError, TypeError):
            return False
        tolerance = 1e-4 if dtype == torch.float32 else 0.1
        expected = results(FuseOptions(dtype, pack=False))
        return all(torch.allclose(a, b, tolerance, tolerance) for a, b in zip(found, expected, strict=True))
