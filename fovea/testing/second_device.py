"""A second device on a machine without a GPU: tensors that say they lie on cuda:0.

    with second_device():
        model = fovea.build_model("vits16_foveal").to("cuda")
        model(images)  # raises what torch raises on a GPU where devices are mixed

Their numbers are on the CPU. It finds what a test on the CPU cannot: a forgotten ``device=``, a
generator of another device, a scalar left behind and, by ``waits``, lines where the host waits for
the device. It has no kernels of a GPU (Triton, NCCL) and tells nothing about speed. Autograd's
engine needs a real device, so ``backward`` gives each leaf that the loss depends on a gradient of
1e-3. On a machine with a GPU, everything runs on that GPU instead.
"""

import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from traceback import extract_stack
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from fovea.draws import BatchGenerator
from fovea.extract import integral

MEMORY = 8 * 10**9
"""Bytes of memory that the second device claims, all of them free."""

_CUDA, _CPU = torch.device("cuda", 0), torch.device("cpu")
_GENERATOR = torch.Generator
_GRADIENT = 1e-3
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
_MAKERS = {
    *(torch.tensor, torch.as_tensor, torch.empty, torch.zeros, torch.ones, torch.full, torch.eye),
    *(torch.rand, torch.randn, torch.randint, torch.randperm, torch.arange, torch.linspace),
}
_ITEMS = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_FROM_HOST = {torch.tensor, torch.as_tensor}  # they copy from memory that is not pinned

_open_waits: list[list[str]] = []
_pinned: dict[int, Tensor] = {}  # by address; kept, so that no other tensor gets the address


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Let ``cuda`` be there within this block: the real one, where there is a GPU."""
    if torch.cuda.is_available():
        yield _CUDA
        return
    future = torch.__future__
    before = future.get_overwrite_module_params_on_conversion()
    torch._C._ensureCUDADeviceGuardSet()  # a guard that does nothing
    with ExitStack() as stack:
        stack.callback(_pinned.clear)
        stack.callback(future.set_overwrite_module_params_on_conversion, before)
        future.set_overwrite_module_params_on_conversion(True)
        for owner, name, stand_in in _stand_ins():
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        stack.enter_context(_Makers())
        stack.enter_context(_Operations())  # type: ignore[no-untyped-call]  # torch's class
        yield _CUDA


@contextmanager
def waits() -> Iterator[list[str]]:
    """List where the host waits for the device within this block, one entry for each time.

    On a GPU torch's own debug mode finds them, but for explicit calls of ``synchronize``.
    """
    found: list[str] = []
    if torch.cuda.device_count() and not isinstance(torch.zeros(1, device="cuda"), Remote):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield found
            finally:
                torch.cuda.set_sync_debug_mode("default")
        found += [str(one.message) for one in caught if "synchroniz" in str(one.message)]
        return
    _open_waits.append(found)
    try:
        yield found
    finally:
        _open_waits.remove(found)


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
            device=_CUDA,
            requires_grad=held.requires_grad,
        )
        return made

    def __init__(self, held: Tensor):
        self.held = held

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]  # torch's has a keyword
        return f"Remote({self.held})"

    # as torch's own subclasses have it
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub has no classmethod
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation on what is held."""
        return _run(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    """Sees what starts on the CPU and ends on the device, too."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Makers(TorchFunctionMode):
    """Makes new tensors on the CPU and calls them remote: torch's own look for a driver."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _ITEMS and isinstance(args[0], Remote):
            return func(args[0], _without_lists(args[1]), *args[2:])
        if func not in _MAKERS:
            return func(*args, **given)
        there = _is_cuda(given.get("device"))
        _check_generator(given.get("generator"), there)
        if not there:
            return func(*args, **given)
        if func in _FROM_HOST:
            _wait(str(func.__name__))
        with _disable_current_modes():
            made = func(*_held(args), **_held({**given, "device": _CPU}))
        return Remote(made)


def _new_generator(cls: Any, device: torch.device | str = "cpu") -> Any:
    made = _GENERATOR.__new__(cls)
    made.claimed = _CUDA if _is_cuda(device) else _CPU
    return made


class _Generator(_GENERATOR):
    """A generator that may say it is on cuda."""

    __new__ = _new_generator  # type: ignore[assignment]  # mypy takes it for a plain function
    device = property(lambda self: self.claimed)

    def __init__(self, device: torch.device | str = "cpu"):
        pass


class _Event:
    """An event of a stream on which everything has happened already."""

    def __init__(self, **_: Any):
        pass

    def record(self, stream: object = None) -> None:
        """Do nothing."""

    def wait(self, stream: object = None) -> None:
        """Let a stream wait, not the host."""

    def query(self) -> bool:
        """Say that it has happened."""
        return True

    def synchronize(self) -> None:
        """Wait on the host."""
        _wait("Event.synchronize")

    def elapsed_time(self, other: object) -> float:
        """Tell no time."""
        return 0.0


class _Stream:
    """A stream on which everything happens at once."""

    device = _CUDA

    def __init__(self, *_: Any, **__: Any):
        pass

    def wait_stream(self, stream: object) -> None:
        """Do nothing."""

    def wait_event(self, event: object) -> None:
        """Do nothing."""

    def record_event(self, event: _Event | None = None) -> _Event:
        """Return an event."""
        return event or _Event()

    def synchronize(self) -> None:
        """Wait on the host."""
        _wait("Stream.synchronize")


def _stand_ins() -> Iterable[tuple[object, str, Any]]:
    """List what stands in for what needs a driver: owner, name, stand-in."""
    of_cuda = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "set_device": lambda _: None,
        "device": lambda _: nullcontext(),
        "synchronize": lambda *_: _wait("torch.cuda.synchronize"),
        "get_device_name": lambda *_: "second device",
        "get_device_properties": lambda *_: types.SimpleNamespace(total_memory=MEMORY),
        "get_device_capability": lambda *_: (8, 0),
        "mem_get_info": lambda *_: (MEMORY, MEMORY),
        "max_memory_allocated": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "get_rng_state": lambda *_: torch.random.get_rng_state(),
        "set_rng_state": lambda *_: None,
        "Event": _Event,
        "Stream": _Stream,
        "stream": lambda _: nullcontext(),
        "current_stream": lambda *_: _Stream(),
    }
    yield from ((torch.cuda, name, stand_in) for name, stand_in in of_cuda.items())
    yield integral, "is_installed", lambda package: package != "triton"
    yield torch, "Generator", _Generator
    yield BatchGenerator, "__new__", _new_generator
    yield BatchGenerator, "__init__", _Generator.__init__
    yield BatchGenerator, "device", _Generator.device
    tolist, numpy, save = torch.Tensor.tolist, torch.Tensor.numpy, torch.save
    of_tensors = {
        "backward": _backward,
        "tolist": lambda tensor: tolist(_fetched(tensor)),
        "numpy": lambda tensor, **how: numpy(_on_host(tensor), **how),
        "pin_memory": _pin,
        "is_pinned": lambda tensor, *_: _address(tensor) in _pinned,
        "record_stream": lambda *_: None,
    }
    yield from ((torch.Tensor, name, stand_in) for name, stand_in in of_tensors.items())
    yield torch, "save", lambda what, *args, **how: save(_held(what), *args, **how)


def _run(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Run an operation on what is held; refuse what a GPU refuses."""
    name = str(func)
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    remote = [one for one in tensors if isinstance(one, Remote)]
    if "_fused_sdp_choice" in name:
        return 0  # plain mathematics
    _refuse_mixtures(name, args, remote, tensors)
    asked = kwargs.get("device")
    to_remote = _is_cuda(asked) if asked is not None else bool(remote)
    if name.startswith("aten.copy_"):
        to_remote = isinstance(args[0], Remote)
    _note_waits(name, args, kwargs, to_remote)
    if remote and kwargs.get("generator") is not None:
        _check_generator(kwargs["generator"], True)
    given = _held(dict(kwargs))
    if _is_cuda(asked):
        given["device"] = _CPU
    if "pin_memory" in given:
        given["pin_memory"] = False
    out = func(*_held(args), **given)
    known = {id(one.held): one for one in remote}  # an in-place operation returns the tensor itself

    def wrap(one: Any) -> Any:
        if not to_remote or not isinstance(one, Tensor) or isinstance(one, Remote):
            return one
        return known[id(one)] if id(one) in known else Remote(one)

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
        _wait(name)
    elif name.startswith(_TAKE_INDICES) and any(is_there):
        is_mask = any(one.dtype in (torch.bool, torch.uint8) for one in given[1:])
        if is_mask or not all(is_there[1:]):  # a mask's true values are counted first
            _wait(name)
    elif name.startswith(("aten._to_copy", "aten.copy_")):
        source = given[-1]
        if isinstance(source, Remote) != to_remote:
            asynchronous = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            is_ready = isinstance(source, Remote) or _address(source) in _pinned
            if not (asynchronous and is_ready):
                _wait(name)


def _wait(what: str) -> None:
    """Note that the host waits, with the line of fovea, or of its caller, that makes it wait."""
    if _open_waits:
        here = [one for one in extract_stack() if "second_device.py" not in one.filename]
        ours = [one for one in here if "/fovea" in one.filename] or here
        for found in _open_waits:
            found.append(f"{what} at {ours[-1].filename}:{ours[-1].lineno}: {ours[-1].line}")


def _without_lists(index: Any) -> Any:
    """Make CPU tensors of the lists in an index, as torch does, which then moves them."""
    parts = index if isinstance(index, tuple) else (index,)
    made = tuple(torch.tensor(one) if isinstance(one, list) else one for one in parts)
    return made if isinstance(index, tuple) else made[0]


def _is_cuda(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _held(tree: Any) -> Any:
    return tree_map(lambda one: one.held if isinstance(one, Remote) else one, tree)


def _fetched(tensor: Tensor) -> Tensor:
    if isinstance(tensor, Remote):
        _wait("Tensor.tolist")
    held: Tensor = _held(tensor)
    return held


def _on_host(tensor: Tensor) -> Tensor:
    if isinstance(tensor, Remote):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
            "to host memory first."
        )
    return tensor


def _pin(tensor: Tensor, *_: Any) -> Tensor:
    pinned = tensor.clone()
    _pinned[_address(pinned)] = pinned
    return pinned


def _address(tensor: Tensor) -> int:
    return -1 if isinstance(tensor, Remote) else tensor.untyped_storage().data_ptr()


def _check_generator(generator: Any, there: bool) -> None:
    if generator is not None and (generator.device.type == "cuda") != there:
        wanted = "cuda" if there else "cpu"
        raise RuntimeError(
            f"Expected a '{wanted}' device type for generator but found '{generator.device.type}'"
        )


def _backward(loss: Tensor, *_: Any, **__: Any) -> None:
    """Give every leaf that the loss depends on the same gradient."""
    seen: set[Any] = set()
    to_do: list[Any] = [loss.grad_fn]
    while to_do:
        node = to_do.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the node of a leaf
            with torch.no_grad():
                node.variable.grad = torch.full_like(node.variable, _GRADIENT)
        to_do += [following for following, _ in node.next_functions]
