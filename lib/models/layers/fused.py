"""Layers whose weights no longer change: fused with what follows them, and packed for oneDNN on processors.

A module that has a quicker, equal form for fixed weights has a method ``fuse_for_inference(options) -> nn.Module``,
written by hand or by `fused_form_of`; `lib.deploy.fuse_network` puts these forms into a copy of a network.

oneDNN's operators are reached through `torch.ops.mkldnn`, as PyTorch's own compiler does. They are tried once against
plain PyTorch; where they are missing or differ, the plain layers are used.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.data import Normalise
from lib.machine import keep_choice, kept_choices, processor_name

M = TypeVar("M", bound=nn.Module)
Form = TypeVar("Form", bound=Callable[..., nn.Module])
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "gelu": F.gelu, "relu": F.relu}
_ONE_AT = {"gelu": 1.1444507183528787, "relu": 1.0}
"""Input at which exact GELU, or ReLU, is 1."""
_ONEDNN: Any = torch.ops.mkldnn


@dataclass(frozen=True)
class FuseOptions:
    """Options of a network's form for inference.

    Attributes:
        dtype: Number format of the products.
        pixels: Normalisation to fold into the first layers, which then read uint8 pictures; None leaves it outside.
        pack: Lay weights out for this processor, where `packing_works`; not for networks that are compiled or
            exported, whose compiler does the same.
        pack_products: Weights of linear layers too, where `packed_products_win`.
        grid: Side of the maps that convolutions will see; weights are laid out for it, and maps of other sizes may be
            slow.
        portable: For the compiler of another runtime, which fuses by itself and is best given plain layers; only what
            takes knowledge of the weights is done here.
    """

    dtype: torch.dtype = torch.float32
    pixels: Normalise | None = None
    pack: bool = True
    pack_products: bool = True
    grid: int = 16
    portable: bool = False

    def packs(self, weight: Tensor) -> bool:
        """True if this weight is laid out for the processor."""
        return self.pack and weight.device.type == "cpu" and (self.pack_products or weight.dim() > 2)


def fused_form_of(kind: type[nn.Module], portable: bool = False) -> Callable[[Form], Form]:
    """Decorator of a class that is built as ``form(module, options)``; `kind` gets its `fuse_for_inference` from it.

    Args:
        kind: The class of modules that take this form.
        portable: The form serves other runtimes too; without it they get a copy of the module with fused children.
    """

    def give(form: Form) -> Form:
        def fuse_for_inference(module: nn.Module, options: FuseOptions) -> nn.Module:
            plain = options.portable and not portable
            return with_fused_children(module, options) if plain else form(module, options)

        kind.fuse_for_inference = fuse_for_inference  # type: ignore[attr-defined]
        return form

    return give


def fuse_module(module: nn.Module, options: FuseOptions) -> nn.Module:
    """The module's fused form, or a copy whose children are in theirs.

    Args:
        module: A module in eval mode; it stays unchanged.
        options: How to fuse.

    Returns:
        A module with the same inputs (except for `options.pixels`), and the same outputs up to rounding.
    """
    fuse = getattr(module, "fuse_for_inference", None)
    return with_fused_children(module, options) if fuse is None else fuse(options)


def with_fused_children(module: M, options: FuseOptions) -> M:
    """A copy of a module whose children are fused and whose own weights have the options' number format."""
    twin = copy.copy(module)
    children = module._modules.items()
    twin._modules = {name: None if child is None else fuse_module(child, options) for name, child in children}
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
    """Linear layer with its activation: ``act(x W^T + b)``.

    Args:
        weight: [C, K].
        bias: [C].
        options: Number format and packing.
        act: "none", "relu" or (exact) "gelu".
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, options: FuseOptions, act: str = "none") -> None:
        super().__init__()
        self.act, self.packed = act, options.packs(weight)
        weight = weight.detach().to(options.dtype)
        weight = _ONEDNN._reorder_linear_weight(weight) if self.packed else weight
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(options.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The product.

        Args:
            x: [..., K].

        Returns:
            [..., C].
        """
        if not self.packed:
            return _ACTIVATIONS[self.act](F.linear(x, self.weight, self.bias))
        kind = "none" if self.act == "gelu" else ""
        return _ONEDNN._linear_pointwise(x, self.weight, self.bias, self.act, [], kind)


class ResidualMlp(nn.Module):
    """Perceptron and residual in two operations: ``stream + act(x W1^T + b1) W2^T + b2``.

    A product can add to the stream or have a bias, but not both at full speed. So the hidden layer gets a unit that is
    constant, and its outgoing weights are b2. The padding keeps the hidden width a multiple of what vector units like.

    Args:
        up, up_bias: [H, K] and [H], of the first layer.
        down, down_bias: [C, H] and [C], of the second.
        options: Number format and packing.
        act: "gelu" or "relu".
    """

    PADDING = 16
    down: Tensor

    def __init__(
        self, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, options: FuseOptions, act: str = "gelu"
    ) -> None:
        super().__init__()
        up, bias, down = (t.detach().to(options.dtype) for t in (up, up_bias, down))
        constant = bias.new_full((), _ONE_AT[act])
        extra, outgoing = bias.new_zeros(self.PADDING), down.new_zeros(len(down), self.PADDING)
        extra[0] = constant
        outgoing[:, 0] = down_bias.detach().float() / _ACTIVATIONS[act](constant).float()
        self.up = Product(F.pad(up, (0, 0, 0, self.PADDING)), torch.cat([bias, extra]), options, act)
        down = torch.cat([down, outgoing], dim=1)
        self.packed = options.packs(down)
        self.register_buffer("down", _ONEDNN._reorder_linear_weight(down) if self.packed else down, persistent=False)

    @classmethod
    def of_linears(cls, up: nn.Module, down: nn.Module, options: FuseOptions, act: str = "gelu") -> ResidualMlp:
        """The perceptron of two linear layers."""
        (w1, b1), (w2, b2) = ((m.get_parameter("weight"), m.get_parameter("bias")) for m in (up, down))
        return cls(w1, b1, w2, b2, options, act)

    def forward(self, stream: Tensor, x: Tensor) -> Tensor:
        """Perceptron and sum.

        Args:
            stream: [B, N, C]; it is overwritten.
            x: [B, N, K].

        Returns:
            [B, N, C].
        """
        hidden = self.up(x)
        if self.packed:
            return _ONEDNN._linear_pointwise(hidden, stream, self.down, None, "add")
        stream.view(-1, stream.shape[-1]).addmm_(hidden.flatten(0, 1), self.down.t())
        return stream


class Convolution(nn.Module):
    """Square convolution, then optionally a sum and ReLU. Maps are channels-last.

    Args:
        weight: [C, K / groups, k, k].
        bias: [C].
        options: Number format and packing.
        relu: A ReLU follows.
        groups, stride, dilation, padding: See `nn.Conv2d`; without a padding, stride 1 keeps the size.
    """

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
        padding: int | None = None,
    ) -> None:
        super().__init__()
        padding = dilation * (weight.shape[-1] // 2) if padding is None else padding
        self.relu, self.groups, self.packed = relu, groups, options.packs(weight)
        steps, around, apart = ([value] * 2 for value in (stride, padding, dilation))
        # The same in the order of PyTorch's convolution and of oneDNN's.
        self.sliding, self.packed_sliding = (steps, around, apart, groups), (around, steps, apart, groups)
        weight = weight.detach().to(options.dtype)
        if self.packed:
            size = [1, weight.shape[1] * groups, options.grid, options.grid]
            weight = weight.contiguous().to_mkldnn()
            weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight, *self.packed_sliding, size)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", None if bias is None else bias.detach().to(options.dtype), persistent=False)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Convolution, sum, ReLU.

        Args:
            x: [B, K, H, W].
            shortcut: [B, C, H / stride, W / stride], added to the result before the ReLU.

        Returns:
            [B, C, H / stride, W / stride].
        """
        if not self.packed:
            return finished(F.conv2d(x, self.weight, self.bias, *self.sliding), shortcut, self.relu)
        layer, operator = (self.weight, self.bias, *self.packed_sliding), _ONEDNN._convolution_pointwise
        relu = "relu" if self.relu else "none"
        y: Tensor
        if shortcut is None:
            y = operator(x, *layer, relu, [], "")
        elif x.dtype == torch.float32 and x.shape[2:].numel() > 1:
            y = operator.binary(x, shortcut, *layer, "add", 1.0, relu if self.relu else None, [], "")
        else:  # oneDNN's operator with a sum refuses bfloat16 and, in PyTorch 2.11, maps of one cell
            y = finished(operator(x, *layer, "none", [], ""), shortcut, self.relu)
        return y


def finished(x: Tensor, shortcut: Tensor | None, relu: bool) -> Tensor:
    """Sum and ReLU after a convolution, in place."""
    x = x if shortcut is None else x.add_(shortcut)
    return x.relu_() if relu else x


Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys, values, each [B, heads, N, d] -> [B, heads, N, d]."""


def choose_attention(options: FuseOptions, device: torch.device) -> Attend:
    """The quicker softmax attention: fused, or on processors in bfloat16 as two products.

    PyTorch's fused kernel is made for long sequences and, without AMX, takes twice as long as the products do.

    Args:
        options: Number format and packing.
        device: Of the queries.
    """
    if not options.pack or device.type != "cpu" or options.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return F.scaled_dot_product_attention if has_amx else attention_by_products


def attention_by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention with its whole map between two products.

    Args:
        q, k, v: [B, heads, N, d].

    Returns:
        [B, heads, N, d].
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1) @ v


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


@cache
def packed_products_win(dtype: torch.dtype) -> bool:
    """True if products of this number format are clearly quicker with oneDNN's operators than with PyTorch's library.

    On some processors they take half of the time, on others a tenth more. Timed in turn, once per machine and number of
    threads; the choice is kept, since the results of the two differ by rounding.
    """
    if dtype != torch.float32:
        return True
    key = f"packed products, {processor_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    if isinstance(kept := kept_choices().get(key), bool):
        return kept
    weight, x = torch.ones(768, 3072), torch.ones(1, 320, 3072)  # random ones would take from the seed
    forms = [Product(weight, None, FuseOptions(pack=pack)) for pack in (True, False)]
    best = [float("inf")] * 2
    for _ in range(6):
        for i, form in enumerate(forms):
            began = time.perf_counter()
            form(x)
            best[i] = min(best[i], time.perf_counter() - began)
    if not isinstance(kept := kept_choices().get(key), bool):  # another process may have been quicker
        keep_choice(key, kept := best[0] < 0.95 * best[1])
    return kept
