"""Tensors that say they lie on cuda:0 and hold their numbers on the CPU; what a GPU refuses."""

from collections.abc import Mapping
from traceback import extract_stack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_MOVES = ("aten._to_copy", "aten.copy_", "aten._copy_from", "aten.set_", "aten._foreach_copy_")
_NO_SCALARS = (  # elsewhere a CPU tensor without dimensions may join tensors of a GPU
    *("aten.cat", "aten.stack", "aten.mm.", "aten.addmm", "aten.bmm", "aten.index_select"),
    "aten.gather",
)
_TAKE_INDICES = ("aten.index.", "aten.index_put", "aten._index_put")  # from the CPU, too
_FETCHES = (
    *("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten._unique"),
    *("aten.equal", "aten.is_nonzero", "aten.repeat_interleave.Tensor"),
)
_ABOUT = (
    "aten._has_compatible_shallow_copy_type",
    "aten._fused_sdp_choice",
)  # no; plain mathematics
_MAKERS = {
    *(torch.tensor, torch.as_tensor, torch.empty, torch.zeros, torch.ones, torch.full, torch.eye),
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.arange, torch.linspace),
}
_ITEMS = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_FROM_HOST = {torch.tensor, torch.as_tensor}  # they copy from memory that is not pinned

open_waits: list[list[str]] = []
"""A list for each ``waits`` that is open."""
pinned: dict[int, Tensor] = {}
"""Pinned tensors by address; kept, so that no other tensor gets the address."""


def _gru_cell(inputs: Tensor, state: Tensor, before: Tensor, *bias: Tensor | None) -> Any:
    """Compute torch's fused cell: gates of the input and of the state, as torch.nn.GRUCell."""
    gates = [one if b is None else one + b for one, b in zip((inputs, state), bias, strict=False)]
    (r, z, n), (r_, z_, n_) = (one.chunk(3, 1) for one in (gates or (inputs, state)))
    new = torch.tanh(n + torch.sigmoid(r + r_) * n_)
    return new + torch.sigmoid(z + z_) * (before - new), torch.cat([inputs, state], 1)


def _lstm_cell(inputs: Tensor, state: Tensor, before: Tensor, *bias: Tensor | None) -> Any:
    """Compute torch's fused cell: gates of the input and of the state, as torch.nn.LSTMCell."""
    gates = inputs + state + sum(one for one in bias if one is not None)
    i, f, g, o = gates.chunk(4, 1)
    cell = torch.sigmoid(f) * before + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell, gates


_ONLY_THERE = {  # operations that the CPU does not have
    "aten._thnn_fused_gru_cell.default": _gru_cell,
    "aten._thnn_fused_lstm_cell.default": _lstm_cell,
}


class Remote(torch.Tensor):
    """A tensor that says it is on cuda:0; ``held`` has the numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Remote":
        """Wrap a CPU tensor."""
        made: Remote = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=CUDA,
            requires_grad=held.requires_grad,
        )
        return made

    def __init__(self, held: Tensor):
        self.held = held

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]  # torch's has a keyword
        return f"Remote({self.held})"

    def __format__(self, spec: str) -> str:
        wait("format")
        return format(self.held, spec)

    # as torch's own subclasses have it
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub has no classmethod
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation on what is held."""
        return _run(func, args, kwargs or {})


class Operations(TorchDispatchMode):
    """Sees what starts on the CPU and ends on the device, too."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class Makers(TorchFunctionMode):
    """Makes new tensors on the CPU and calls them remote: torch's own look for a driver."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _ITEMS and isinstance(args[0], Remote):
            return func(args[0], _without_lists(args[1]), *args[2:])
        if func is torch.Tensor.new_tensor and isinstance(args[0], Remote):
            given = {"dtype": args[0].dtype, "device": CUDA, **given}
            func, args = torch.tensor, args[1:]
        if func not in _MAKERS:
            return func(*args, **given)
        there = is_cuda(given.get("device"))
        check_generator(given.get("generator"), there)
        if not there:
            return func(*args, **given)
        if func in _FROM_HOST:
            wait(str(func.__name__))
        with _disable_current_modes():
            made = func(*held(args), **held({**given, "device": CPU}))
        return Remote(made)


def _run(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Run an operation on what is held; refuse what a GPU refuses."""
    name = str(func)
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    remote = [one for one in tensors if isinstance(one, Remote)]
    if name.startswith(_ABOUT):
        return 0
    _refuse_mixtures(name, args, remote, tensors)
    asked = kwargs.get("device")
    to_remote = is_cuda(asked) if asked is not None else bool(remote)
    if name.startswith("aten.copy_"):
        to_remote = isinstance(args[0], Remote)
    _note_waits(name, args, kwargs, to_remote)
    if remote and kwargs.get("generator") is not None:
        check_generator(kwargs["generator"], True)
    given = held(dict(kwargs))
    if is_cuda(asked):
        given["device"] = CPU
    if "pin_memory" in given:
        given["pin_memory"] = False
    out = (_ONLY_THERE.get(name) or func)(*held(args), **given)
    # a view is one of inference mode only if what it views is
    inference = torch.is_inference_mode_enabled() and all(one.is_inference() for one in remote)
    known = {id(one.held): one for one in remote}  # an in-place operation returns the tensor itself

    def wrap(one: Any) -> Any:
        if not to_remote or not isinstance(one, Tensor) or isinstance(one, Remote):
            return one
        if id(one) in known:
            return known[id(one)]
        with torch.inference_mode(inference):
            return Remote(one)

    return tree_map(wrap, out)


def _refuse_mixtures(name: str, args: Any, remote: list[Remote], tensors: list[Tensor]) -> None:
    if not remote or name.startswith(_MOVES):
        return
    strict, indexed = name.startswith(_NO_SCALARS), name.startswith(_TAKE_INDICES)
    first = args[0] if args else None
    for one in tensors:
        is_index = indexed and one is not first and not one.is_floating_point()
        if not isinstance(one, Remote) and (one.dim() or strict) and not is_index:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"cuda:0 and cpu! ({name})"
            )


def _note_waits(name: str, args: Any, kwargs: Mapping[str, Any], to_remote: bool) -> None:
    """Note an operation for which the host waits until the device has come so far."""
    given = [one for one in tree_leaves(args) if isinstance(one, Tensor)]
    is_there = [isinstance(one, Remote) for one in given]
    if name.startswith(_FETCHES) and any(is_there):
        wait(name)
    elif name.startswith(_TAKE_INDICES) and any(is_there):
        is_mask = any(one.dtype in (torch.bool, torch.uint8) for one in given[1:])
        if is_mask or not all(is_there[1:]):  # a mask's true values are counted first
            wait(name)
    elif name.startswith(("aten._to_copy", "aten.copy_")):
        source = given[-1]
        if isinstance(source, Remote) != to_remote:
            asynchronous = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            is_ready = isinstance(source, Remote) or address(source) in pinned
            if not (asynchronous and is_ready):
                wait(name)


def wait(what: str) -> None:
    """Note that the host waits, with the line of fovea, or of its caller, that makes it wait."""
    if open_waits:
        here = [one for one in extract_stack() if "/fovea/testing/" not in one.filename]
        ours = [one for one in here if "/fovea" in one.filename] or here
        for found in open_waits:
            found.append(f"{what} at {ours[-1].filename}:{ours[-1].lineno}: {ours[-1].line}")


def _without_lists(index: Any) -> Any:
    """Make CPU tensors of the lists in an index, as torch does, which then moves them."""
    parts = index if isinstance(index, tuple) else (index,)
    made = tuple(torch.tensor(one) if isinstance(one, list) else one for one in parts)
    return made if isinstance(index, tuple) else made[0]


def is_cuda(device: Any) -> bool:
    """Say whether what was given as a device is a GPU."""
    return device is not None and torch.device(device).type == "cuda"


def held(tree: Any) -> Any:
    """Put what remote tensors hold in their place, in a tree of lists, tuples and dicts."""
    return tree_map(lambda one: one.held if isinstance(one, Remote) else one, tree)


def address(tensor: Tensor) -> int:
    """Tell where a CPU tensor's memory begins; views share it."""
    return -1 if isinstance(tensor, Remote) else tensor.untyped_storage().data_ptr()


def check_generator(generator: Any, there: bool) -> None:
    """Refuse a generator of the other device, as torch does."""
    if generator is not None and (generator.device.type == "cuda") != there:
        wanted = "cuda" if there else "cpu"
        raise RuntimeError(
            f"Expected a '{wanted}' device type for generator but found '{generator.device.type}'"
        )
