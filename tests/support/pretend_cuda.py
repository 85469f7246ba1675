"""A CUDA device without a GPU: tensors that say they are on it, computed on the processor under a GPU's rules.

Values are those of the processor, so that every branch is taken; mixed devices are refused as a GPU refuses them, and
what makes the host wait for the device is noted with the line that asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda:9")
"""Not the first one: what the library keeps per device stays apart from a real GPU's."""
aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.nonzero, aten.masked_select, aten._unique2,
         aten.unique_dim, aten.unique_consecutive, aten.bincount}  # fmt: skip
"""They wait for the device: their value or the shape of their result is read."""
MIXED = {aten.copy_, aten._to_copy, aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""They take tensors of the processor beside those of the device, and copy them."""
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class OnCuda(Tensor):
    """A tensor of the pretended device; `held` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, real: Tensor, requires_grad: bool = False) -> OnCuda:
        meta = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device="meta")
        made: OnCuda = Tensor._make_subclass(  # type: ignore[attr-defined]
            cls, meta, requires_grad, dispatch_device=True, device_for_backend_keys=CUDA
        )
        made.held = real
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCuda({self.held!r})"

    __str__ = __repr__

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = is_meta = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is torch.ops.prim.device.default:
            return torch.device("cpu")  # what C++ is told: autograd would look for streams
        raise RuntimeError(f"{function} outside of the pretended device")


def _to(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """`Tensor.to`, where either tensor may be on the pretended device."""
    options.pop("non_blocking", None), options.pop("memory_format", None)
    copied = options.pop("copy", False)
    device, dtype = options.pop("device", None), options.pop("dtype", None)
    for given in (*arguments, *([options.pop("other")] if "other" in options else [])):
        if isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, Tensor):
            device, dtype = given.device, given.dtype
        elif isinstance(given, str | torch.device | int) and not isinstance(given, bool):
            device = given
    assert not options, options
    device, dtype = torch.device(x.device if device is None else device), dtype or x.dtype
    if device.type == x.device.type and dtype == x.dtype and not copied:
        return x
    return aten._to_copy(x, device=device, dtype=dtype, non_blocking=True)


def _new_tensor(x: Tensor, data: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    return torch.tensor(data, dtype=dtype or x.dtype, device=device or x.device)


def _set(x: Tensor, index: Any, value: Any) -> None:
    if isinstance(x, OnCuda) and not isinstance(value, Tensor):
        value = torch.full((), value, dtype=x.dtype, device=CUDA)
    x[index] = value


def _made(make: Any) -> Any:
    """`torch.tensor` or `torch.as_tensor`: made on the processor, then copied."""

    def made(data: Any, dtype: torch.dtype | None = None, device: Any = None, **options: Any) -> Tensor:
        device = device or torch.get_default_device()
        if isinstance(data, Tensor):
            return _to(data, device, dtype or data.dtype)
        return _to(make(data, dtype=dtype, device="cpu", **options), device)

    return made


def _pin(x: Tensor) -> Tensor:
    if isinstance(x, OnCuda):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    pinned = x.clone()
    pinned.pinned = True  # type: ignore[attr-defined]
    return pinned


def _empty(*size: Any, pin_memory: bool = False, **options: Any) -> Tensor:
    made = torch.empty(*size, **options)
    return _pin(made) if pin_memory else made


def _numpy(x: Tensor, **options: Any) -> Any:
    if isinstance(x, OnCuda):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
    return x.numpy(**options)


_PYTHON: dict[Any, Any] = {
    Tensor.get_device: lambda x: 0,
    Tensor.to: _to,
    Tensor.cpu: lambda x: _to(x, "cpu"),
    Tensor.cuda: lambda x, *a, **k: _to(x, CUDA),
    Tensor.type_as: lambda x, other: _to(x, other),
    Tensor.tolist: lambda x: _to(x, "cpu").tolist(),
    Tensor.numpy: _numpy,
    Tensor.__array__: lambda x, *a, **k: _numpy(x),
    Tensor.new_tensor: _new_tensor,
    Tensor.__setitem__: _set,
    Tensor.pin_memory: _pin,
    Tensor.is_pinned: lambda x: getattr(x, "pinned", False),
    torch.empty: _empty,
    torch.tensor: _made(torch.tensor),
    torch.as_tensor: _made(torch.as_tensor),
}
"""Methods that C++ would answer by the device that it is told."""
for _name in ("to", "cpu", "cuda", "type_as", "tolist", "numpy", "new_tensor"):  # in a backward pass no mode is at work
    setattr(OnCuda, _name, _PYTHON[getattr(Tensor, _name)])


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LOWER = _names(
    """
    __matmul__ __rmatmul__ addbmm addmm addmv baddbmm bmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d einsum linear matmul mm mv prelu scaled_dot_product_attention
    """
)
WIDER = _names(
    """
    __pow__ __rdiv__ __rpow__ __rtruediv__ acos asin binary_cross_entropy_with_logits cdist cosh
    cosine_embedding_loss cosine_similarity cross_entropy cumprod cumsum dist erfinv exp expm1 grid_sample
    group_norm hinge_embedding_loss huber_loss interpolate kl_div l1_loss layer_norm log log10 log1p log2
    log_softmax logsumexp margin_ranking_loss mse_loss multilabel_margin_loss nll_loss norm nuclear_norm pdist
    poisson_nll_loss pow prod reciprocal renorm rsqrt sinh smooth_l1_loss soft_margin_loss softmax softmin softplus
    sum tan triplet_margin_loss
    """
)
PROMOTED = _names(
    """
    addcdiv addcmul atan2 bilinear cross dot grid_sample index_put scatter_add tensordot
    """
)
"""Operators that autocast on CUDA computes in its number format, in float32, and in the widest one given."""


def _autocast(name: str, arguments: Any, options: Any) -> Any:
    """Arguments as autocast on CUDA casts them; C++ would, if it were told of CUDA."""
    if name in ("binary_cross_entropy", "BCELoss"):
        raise RuntimeError("torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast")
    given = [x for x in tree_leaves((arguments, options)) if isinstance(x, OnCuda) and x.is_floating_point()]
    if not given or (any(x.dtype == torch.float64 for x in given) and name not in WIDER):
        return arguments, options
    if name in LOWER:
        dtype = torch.get_autocast_dtype("cuda")
    elif name in WIDER or any(x.dtype == torch.float32 for x in given):
        dtype = torch.float32
    else:
        return arguments, options
    half = (torch.float16, torch.bfloat16)

    def cast(x: Tensor) -> Tensor:
        eligible = x.is_floating_point() and x.dtype != torch.float64
        return _to(x, dtype) if eligible and (name in LOWER or x.dtype in half) else x

    return tree_map_only(OnCuda, cast, (arguments, options))


class _Methods(TorchFunctionMode):
    """Answers the methods of `_PYTHON`, and casts as autocast does."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options, name = options or {}, getattr(function, "__name__", "")
        if torch.is_autocast_enabled("cuda") and (
            name in LOWER or name in WIDER or name in PROMOTED or "cross" in name
        ):
            arguments, options = _autocast(name, arguments, options)
        return _PYTHON.get(function, function)(*arguments, **options)


class Event(NamedTuple):
    """What concerns the host.

    Attributes:
        kind: "read" waits for the device; "copy" brings values of ordinary memory there, and waits too; "copy of pinned
            memory" does not; "random" draws numbers on the device.
        operator: It.
        line: Of the library.
    """

    kind: str
    operator: str
    line: str


class PretendCuda(TorchDispatchMode):
    """Operations of the pretended device, and of the processor.

    Attributes:
        events: What concerned the host so far.
        capturing: As inside a CUDA graph, where such an event is an error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.capturing = False

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is torch.ops.prim.device.default:
            return torch.device("cpu")
        options = dict(options or {})
        tensors: list[Tensor] = []
        given = _unwrapped((arguments, options), tensors)
        ours = [x for x in tensors if isinstance(x, OnCuda)]
        target = options.get("device")
        # C++ asks for the processor, on which it believes the tensor to be; `_to` does not block.
        kept = target is None or (ours and not options.get("non_blocking"))
        on_cuda = bool(ours) if kept else torch.device(target).type == "cuda"
        # Zeros of a backward pass are made where C++ believes the gradient to be.
        on_cuda = on_cuda or (not tensors and torch._C._current_graph_task_id() != -1)
        if ours or on_cuda:
            self._look(function, tensors, ours, on_cuda, options)
        if on_cuda and target is not None:
            given[1]["device"] = torch.device("cpu")
        found = function(*given[0], **given[1])
        return _returned(function, arguments, options, found) if on_cuda else found

    def _look(self, function: Any, tensors: list[Tensor], ours: list[OnCuda], on_cuda: bool, options: Any) -> None:
        """Note what concerns the host, and refuse what a GPU refuses."""
        packet = function.overloadpacket
        others = [x for x in tensors if not isinstance(x, OnCuda)]
        if ours and others and packet not in MIXED:
            scalars = torch.Tag.pointwise in function.tags or packet in (aten.where, aten.masked_fill, aten.fill)
            if not (scalars and all(x.dim() == 0 for x in others)):
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"({packet})"
                )
        generator = options.get("generator")
        if on_cuda and generator is not None and generator.device.type != "cuda":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if on_cuda and torch.Tag.nondeterministic_seeded in function.tags and "attention" not in str(packet):
            self._note("random", packet)
        if packet is aten._to_copy and isinstance(tensors[0], OnCuda) != on_cuda:
            self._note("copy" if on_cuda else "read", packet, tensors[0])
        elif packet is aten.copy_ and len(ours) == 1:
            self._note("read" if isinstance(tensors[1], OnCuda) else "copy", packet, tensors[1])
        elif packet in MIXED and ours and others:
            self._note("copy", packet, others[0])
        elif packet in READS or (packet is aten.repeat_interleave and "output_size" not in options):
            self._note("read", packet)
        masked = packet in INDEXED and any(x.dtype == torch.bool for x in tensors[1:])
        if masked and (packet is aten.index or tensors[-1].numel() > 1):  # one number is filled in without counting
            self._note("read", packet)

    def _note(self, kind: str, packet: Any, source: Tensor | None = None) -> None:
        if kind == "copy" and getattr(source, "pinned", False):
            kind = "copy of pinned memory"
        self.events.append(Event(kind, str(packet), _line()))
        if self.capturing:
            raise RuntimeError(f"operation not permitted when stream is capturing: {kind} by {packet} at {_line()}")


def _unwrapped(value: Any, tensors: list[Tensor]) -> Any:
    """Arguments with the values of tensors of the pretended device; all tensors among them are noted."""
    if isinstance(value, OnCuda):
        tensors.append(value)
        return value.held
    if isinstance(value, Tensor):
        tensors.append(value)
        return value
    if isinstance(value, list | tuple):
        return type(value)([_unwrapped(x, tensors) for x in value])
    return {k: _unwrapped(x, tensors) for k, x in value.items()} if isinstance(value, dict) else value


def _returned(function: Any, arguments: Any, options: Any, found: Any) -> Any:
    """A result on the pretended device; the argument itself where that was written to."""
    schema = function._schema
    written = {}
    if schema.is_mutable:
        given = dict(zip([a.name for a in schema.arguments], arguments, strict=False)) | options
        for a in schema.arguments:
            if a.alias_info is not None and a.alias_info.is_write:
                value = given.get(a.name)
                written[tuple(a.alias_info.before_set)] = value
                if isinstance(value, OnCuda) and value.shape != value.held.shape:
                    raise NotImplementedError(f"{function} changes a shape in place")

    def back(value: Any, kind: Any) -> Any:
        if written and kind.alias_info is not None and kind.alias_info.is_write:
            return written[tuple(kind.alias_info.before_set)]
        if isinstance(value, Tensor):
            return OnCuda(value)
        return type(value)(back(x, kind) for x in value) if isinstance(value, list | tuple) else value

    if len(schema.returns) == 1:
        return back(found, schema.returns[0])
    return tuple(back(v, r) for v, r in zip(found or (), schema.returns, strict=True)) or None


def _line() -> str:
    """Line of the library, or of what calls torch, that is at work."""
    frame, last = sys._getframe(1), ""
    while frame is not None:
        file = frame.f_code.co_filename
        if "/lib/" in file and "site-packages" not in file and "/python3" not in file:
            return f"lib/{file.rpartition('/lib/')[2]}:{frame.f_lineno}"
        if not last and "torch" not in file and "pretend_cuda" not in file:
            last = f"{file.rpartition('/')[2]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return last


class PretendGraph:
    """In place of `torch.cuda.CUDAGraph`: does the recorded operations again on the same memory."""

    def __init__(self) -> None:
        self.recorded: list[Any] = []

    def replay(self) -> None:
        for function, arguments, options, found in self.recorded:
            again = function(*arguments, **options)
            for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if isinstance(old, OnCuda) and isinstance(new, OnCuda) and old.held.data_ptr() != new.held.data_ptr():
                    old.held.copy_(new.held)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: PretendGraph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        found = function(*arguments, **(options or {}))
        if function is not torch.ops.prim.device.default:
            self.graph.recorded.append((function, arguments, options or {}, found))
        return found


@contextmanager
def pretend_cuda(bfloat16: bool = True) -> Iterator[PretendCuda]:
    """Have a CUDA device, pretended.

    Args:
        bfloat16: It has bfloat16.
    """
    mode = PretendCuda()

    @contextmanager
    def graph(captured: PretendGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Any:
        assert stream == CUDA, "the stream of another device captures an empty graph"
        mode.capturing = True
        try:
            with _Recorder(captured):
                yield
        finally:
            mode.capturing = False

    given = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "device_count": lambda: 1,
        "get_arch_list": list,
        "get_device_capability": lambda device=None: (9, 0),
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "Pretended GPU",
        "is_bf16_supported": lambda including_emulation=True: bfloat16,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device="cuda": None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "Stream": lambda device=None: torch.device("cuda:0" if device is None else device),
        "device": lambda device: nullcontext(),
        "CUDAGraph": PretendGraph,
        "graph": graph,
        "graph_pool_handle": lambda: (0, 1),
        "is_current_stream_capturing": lambda: mode.capturing,
    }
    group = torch._C._group_tensors_by_device_and_dtype

    def grouped(lists: Any, with_indices: bool = False) -> Any:
        found = group(lists, with_indices)
        ours = any(isinstance(x, OnCuda) for x in lists[0])
        return {(CUDA if ours else device, dtype): v for (device, dtype), v in found.items()}

    before, overwrite = torch._C._only_lift_cpu_tensors(), torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with (
            mock.patch.multiple(torch.cuda, **given),
            mock.patch.object(torch.accelerator, "current_stream", return_value=mock.Mock(is_capturing=lambda: False)),
            mock.patch.object(torch._C, "_group_tensors_by_device_and_dtype", grouped),
            mode,
            _Methods(),
        ):
            yield mode
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
