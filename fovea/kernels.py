"""Which compiled kernels can run, and where; without them plain torch does the same."""

import os
from functools import cache
from importlib.util import find_spec
from shutil import which

import torch

_OLDEST = (7, 0)  # compute capability that triton compiles for


@cache
def is_installed(package: str) -> bool:
    """Say whether a package can be imported; to look it up takes as long as a small table."""
    return find_spec(package) is not None


def runs_triton(device: torch.device) -> bool:
    """Say whether kernels of triton run on a device: a recent GPU, or any, where they interpret.

    For a GPU, triton builds its launcher with a C compiler when a kernel first runs.
    """
    if not is_installed("triton"):
        return False
    if interprets_triton() or device.type != "cuda":
        return interprets_triton()
    return _has_compiler() and torch.cuda.get_device_capability(device) >= _OLDEST


@cache
def _has_compiler() -> bool:
    return bool(os.environ.get("CC") or which("gcc") or which("clang"))


def interprets_triton() -> bool:
    """Say whether triton interprets kernels on the CPU, as TRITON_INTERPRET=1 asks it to."""
    return os.environ.get("TRITON_INTERPRET") == "1"
