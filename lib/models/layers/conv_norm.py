"""A convolution and the batch norm behind it as one, for inference and for networks that learn in eval mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.models.layers.fused import Convolution, FuseOptions, fused_form_of


def folded(convolution: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that includes the batch norm behind it, without gradients; folded in float64.

    Raises:
        ValueError: The norm has no running statistics.
    """
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    weight, bias = _folded(convolution, norm, torch.float64)
    return weight.to(convolution.weight.dtype).detach(), bias.to(convolution.weight.dtype).detach()


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`folded` with gradients, computed in a number format."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = (norm.running_var.to(dtype) + norm.eps).rsqrt()
    shift = -norm.running_mean.to(dtype) * scale
    if norm.affine:
        scale, shift = scale * norm.weight.to(dtype), shift * norm.weight.to(dtype) + norm.bias.to(dtype)
    weight = convolution.weight.to(dtype) * scale[:, None, None, None]
    return weight, shift if convolution.bias is None else convolution.bias.to(dtype) * scale + shift


def convolution_norm(x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """A convolution and the batch norm behind it, as one convolution where a network in eval mode learns.

    Values and gradients are the same up to rounding; the norm's input, a map as large as its output, is not kept for
    the backward pass, nor on the CPU are the folded weights.

    Args:
        x: [B, K, H, W].
        convolution: Padded with zeros.
        norm: Of its output.

    Returns:
        [B, C, H', W'].
    """
    if norm.training or not torch.is_grad_enabled():
        return norm(convolution(x))
    if x.device.type == "cpu":
        parameters = *convolution.parameters(), *norm.parameters()
        return _FoldedConvolution.apply(x, convolution, norm, *parameters)
    return F.conv2d(x, *_folded(convolution, norm, convolution.weight.dtype), *_sliding(convolution))


def _sliding(convolution: nn.Conv2d) -> tuple[Any, ...]:
    """Stride, padding, dilation and groups."""
    return convolution.stride, convolution.padding, convolution.dilation, convolution.groups


class _FoldedConvolution(torch.autograd.Function):
    """`convolution_norm` with weights that are folded once more in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(x, *parameters)
        ctx.layers = convolution, norm
        return F.conv2d(x, *_folded(convolution, norm, convolution.weight.dtype), *_sliding(convolution))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, *parameters), (of_x, _, _, *of_parameters) = ctx.saved_tensors, ctx.needs_input_grad
        convolution, norm = ctx.layers
        with torch.enable_grad():
            folded = _folded(convolution, norm, parameters[0].dtype)
        learned = [p for p, needed in zip(parameters, of_parameters, strict=True) if needed]
        kept, weight = (t.to(gradient.dtype) for t in (x, folded[0].detach()))  # under autocast, of its format
        *sliding, groups = _sliding(convolution)
        of = of_x, bool(learned), bool(learned)
        on_x, *on_folded = torch.ops.aten.convolution_backward(
            gradient, kept, weight, [len(weight)], *sliding, False, [0, 0], groups, of
        )
        found: dict[Tensor, Tensor] = {}
        if learned:
            on_folded = [g.to(t) for g, t in zip(on_folded, folded, strict=True)]
            found = dict(zip(learned, torch.autograd.grad(folded, learned, on_folded), strict=True))
        return on_x.to(x.dtype) if of_x else None, None, None, *(found.get(p) for p in parameters)


class ConvModule(nn.Module):
    """Convolution without bias, batch norm, ReLU; it keeps the size. The norm has the name of published checkpoints.

    Args:
        inputs, width: Channels.
        side: Of the kernel.
    """

    def __init__(self, inputs: int, width: int, side: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, side, padding=side // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.BN256 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, H, W] -> [B, width, H, W]."""
        return F.relu(self.linear(x), inplace=True)

    def linear(self, x: Tensor) -> Tensor:
        """As `forward`, without the ReLU."""
        return self.BN256(self.conv(x))


@fused_form_of(ConvModule)
class FusedConvModule(ConvModule):
    """A `ConvModule` for inference."""

    def __init__(self, block: ConvModule, options: FuseOptions) -> None:
        nn.Module.__init__(self)
        self.convolution = Convolution(*folded(block.conv, block.BN256), options)

    def linear(self, x: Tensor) -> Tensor:
        return self.convolution(x)
