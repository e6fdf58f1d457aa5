"""What stands in, on the second device, for the parts of torch that need a driver."""

import types
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fovea.draws import BatchGenerator
from fovea.testing.remote import CPU, CUDA, Remote, address, held, is_cuda, pinned, wait

MEMORY = 8 * 10**9
"""Bytes of memory that the second device claims, all of them free."""

_GENERATOR = torch.Generator
_GRADIENT = 1e-3


def stand_ins() -> Iterable[tuple[object, str, Any]]:
    """List what stands in for what needs a driver: owner, name, stand-in."""
    of_cuda = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "set_device": lambda _: None,
        "device": _Chosen,
        "device_of": _Chosen,
        "synchronize": lambda *_: wait("torch.cuda.synchronize"),
        "get_device_name": lambda *_: "second device",
        "get_device_properties": lambda *_: types.SimpleNamespace(
            name="second device", total_memory=MEMORY, multi_processor_count=1, major=0, minor=0
        ),
        "get_device_capability": lambda *_: (0, 0),
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
    yield torch, "Generator", _Generator
    yield torch.autograd, "backward", lambda losses, *_, **__: _each_backward(losses)
    yield torch.autograd, "grad", lambda _, inputs, *__, **___: _gradients(inputs)
    yield BatchGenerator, "__new__", _new_generator
    yield BatchGenerator, "__init__", _Generator.__init__
    yield BatchGenerator, "device", _Generator.device
    tolist, numpy, save = torch.Tensor.tolist, torch.Tensor.numpy, torch.save
    of_tensors = {
        "backward": _backward,
        "tolist": lambda tensor: tolist(_fetched(tensor)),
        "numpy": lambda tensor, **how: numpy(_on_host(tensor), **how),
        "pin_memory": _pin,
        "is_pinned": lambda tensor, *_: address(tensor) in pinned,
        "record_stream": lambda *_: None,
    }
    yield from ((torch.Tensor, name, stand_in) for name, stand_in in of_tensors.items())
    yield torch, "save", lambda what, *args, **how: save(held(what), *args, **how)


def _new_generator(cls: Any, device: torch.device | str = "cpu") -> Any:
    made = _GENERATOR.__new__(cls)
    made.claimed = CUDA if is_cuda(device) else CPU
    return made


class _Generator(_GENERATOR):
    """A generator that may say it is on cuda."""

    __new__ = _new_generator  # type: ignore[assignment]  # mypy takes it for a plain function
    device = property(lambda self: self.claimed)

    def __init__(self, device: torch.device | str = "cpu"):
        pass


class _Chosen(AbstractContextManager[None]):
    """Chooses a device: there is only one."""

    def __init__(self, device: object):
        pass

    def __exit__(self, *error: object) -> None:
        """Do nothing."""


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
        wait("Event.synchronize")

    def elapsed_time(self, other: object) -> float:
        """Tell no time."""
        return 0.0


class _Stream:
    """A stream on which everything happens at once."""

    device = CUDA

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
        wait("Stream.synchronize")


def _each_backward(losses: Any) -> None:
    for loss in (losses,) if isinstance(losses, Tensor) else losses:
        _backward(loss)


def _gradients(inputs: Any) -> tuple[Tensor, ...]:
    """Return the gradients that ``_backward`` would give leaves."""
    several = (inputs,) if isinstance(inputs, Tensor) else inputs
    return tuple(torch.full_like(one, _GRADIENT) for one in several)


def _fetched(tensor: Tensor) -> Tensor:
    if isinstance(tensor, Remote):
        wait("Tensor.tolist")
    fetched: Tensor = held(tensor)
    return fetched


def _on_host(tensor: Tensor) -> Tensor:
    if isinstance(tensor, Remote):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
            "to host memory first."
        )
    return tensor


def _pin(tensor: Tensor, *_: Any) -> Tensor:
    copied = tensor.clone()
    pinned[address(copied)] = copied
    return copied


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
