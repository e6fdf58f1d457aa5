"""Which attention kernel a backbone runs by: found out on the machine, not hoped for.

A wheel of xformers that was built for another torch can be imported and has no operator: the first
step would raise. So it is called when a backbone is built; and since its kernels may be slower than
torch's or be torch's own, ``auto`` times both.
"""

import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch
from torch import Tensor

from fovea.backbone.attention import KERNELS, Kernel, by_sdpa, by_xformers, quiet_import

Setting = Literal["auto", "sdpa", "xformers"]

MARGIN = 0.02
"""``auto`` takes xformers up to 2 % more than SDPA's time, which is noise (our choice)."""

_ROWS = 64  # glimpses that are timed at once
_ROUNDS, _CALLS = 5, 10  # the best of so many rounds, of so many calls each


@dataclass(frozen=True)
class Choice:
    """What attention runs by on CUDA devices, and why.

    Attributes:
        kernel: the one taken.
        why: half a sentence for logs; empty where the setting says it all.
    """

    kernel: Kernel
    why: str = ""

    def on(self, device: torch.device) -> str:
        """Say what attention runs by on a device."""
        if device.type != "cuda":
            return "attention by SDPA"
        name = {"sdpa": "SDPA", "xformers": "xformers"}[self.kernel]
        return f"attention by {name}{self.why and f': {self.why}'}"


@dataclass(frozen=True)
class Heads:
    """What the attention of a model looks like.

    Attributes:
        count: heads.
        size: numbers in each.
    """

    count: int
    size: int


def choose(
    setting: Setting, heads: Heads, tokens: tuple[int, ...], device: torch.device | None
) -> Choice:
    """Choose the kernel for passes over so many tokens.

    Args:
        setting: ``backbone.attention``.
        heads: of the model.
        tokens: lengths to be timed for ``auto``.
        device: of the tiny call and of the timing; None where there is no GPU.

    Raises:
        ValueError: xformers is asked for and does not run here.
    """
    if setting == "sdpa":
        return Choice("sdpa")
    problem = _trouble(heads, device)
    if setting == "xformers":
        if problem:
            raise ValueError(f"backbone.attention: {problem}, or choose attention=sdpa")
        return Choice("xformers")
    if problem:
        return Choice("sdpa", problem.partition(";")[0])
    assert device is not None
    return compare({length: times(heads, length, device) for length in tokens})


def compare(seconds: dict[int, dict[Kernel, float]]) -> Choice:
    """Take xformers where it is no slower at any length: seconds of each kernel by tokens."""
    ratios = {length: one["xformers"] / one["sdpa"] for length, one in seconds.items()}
    told = ", ".join(f"{ratio:.2f} at {length} tokens" for length, ratio in ratios.items())
    fast = max(ratios.values()) <= 1 + MARGIN
    return Choice("xformers" if fast else "sdpa", f"xformers takes {told} of SDPA's time")


@cache
def times(heads: Heads, tokens: int, device: torch.device) -> dict[Kernel, float]:
    """Measure the seconds that each kernel takes, forward and backward, in bfloat16."""
    best: dict[Kernel, float] = dict.fromkeys(KERNELS, float("inf"))
    _seconds("sdpa", heads, tokens, device), _seconds("xformers", heads, tokens, device)  # warm up
    for _ in range(_ROUNDS):  # by turns, so that both see the machine in the same state
        for kernel in KERNELS:
            best[kernel] = min(best[kernel], _seconds(kernel, heads, tokens, device))
    return best


@torch.inference_mode(False)
@torch.enable_grad()
def _seconds(kernel: Kernel, heads: Heads, tokens: int, device: torch.device) -> float:
    qkv = _draw(_ROWS, tokens, heads, torch.bfloat16, device)
    gradient = torch.ones_like(qkv[:, :, 0])
    _wait(device)
    start = time.perf_counter()
    for _ in range(_CALLS):
        KERNELS[kernel](*qkv.unbind(2)).backward(gradient)
    _wait(device)
    return time.perf_counter() - start


@cache
def _trouble(heads: Heads, device: torch.device | None) -> str:
    """Say why xformers does not run, and what would be right; empty where it does."""
    try:
        installed = version("xformers")
    except PackageNotFoundError:
        return "xformers is not installed; pip install 'fovea-vit[xformers]'"
    if device is None:
        return "xformers needs a CUDA device, and torch finds none; run where there is one"
    try:
        with quiet_import(), torch.inference_mode(False), torch.enable_grad():
            for dtype in (torch.bfloat16, torch.float32):
                _try(heads, dtype, device)
    except Exception as error:  # whatever a wheel that does not fit raises is the answer
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}".rstrip(": ")
        return (
            f"xformers {installed} does not run with torch {torch.__version__} ({reason}); "
            "install a wheel of xformers that was built for this torch"
        )
    return ""


def _try(heads: Heads, dtype: torch.dtype, device: torch.device) -> None:
    """Attend once by xformers, forward and backward; raise unless the numbers are SDPA's."""
    qkv = _draw(1, 8, heads, dtype, device)
    q, k, v = qkv.unbind(2)
    found, wanted = by_xformers(q, k, v), by_sdpa(q, k, v)
    (ours,) = torch.autograd.grad(found.square().sum(), qkv)
    (theirs,) = torch.autograd.grad(wanted.square().sum(), qkv)
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)


def _draw(rows: int, tokens: int, heads: Heads, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draw queries, keys and values as a backbone makes them [rows, tokens, 3, heads, D/heads]."""
    generator = torch.Generator().manual_seed(0)  # the global random state is left as it was
    shape = (rows, tokens, 3, heads.count, heads.size)
    drawn = torch.randn(shape, generator=generator, device="cpu")
    return drawn.to(device, dtype).requires_grad_()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
