"""A second device on a machine without a GPU: tensors that say they lie on cuda:0.

    with second_device():
        model = fovea.build_model("vits16_foveal").to("cuda")
        model(images)  # raises what torch raises on a GPU where devices are mixed

Their numbers are on the CPU. It finds what a test on the CPU cannot: a forgotten ``device=``, a
generator of another device, a scalar left behind and, by ``waits``, lines where the host waits for
the device. It has no kernels of a GPU (Triton, NCCL) and tells nothing about speed. Autograd's
engine needs a real device, so ``backward`` sets the gradient of each leaf that the loss depends on
to 1e-3; it adds nothing up. On a machine with a GPU, everything runs on that GPU instead.
"""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch

from fovea.testing.remote import CUDA, Makers, Operations, Remote, open_waits, pinned
from fovea.testing.stand_ins import stand_ins

_WAITED = "called a synchronizing"  # what torch's debug mode warns of


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Let ``cuda`` be there within this block: the real one, where there is a GPU."""
    if torch.cuda.is_available():
        yield CUDA
        return
    future = torch.__future__
    before = future.get_overwrite_module_params_on_conversion()
    torch._C._ensureCUDADeviceGuardSet()  # a guard that does nothing
    with ExitStack() as stack:
        stack.callback(pinned.clear)
        stack.callback(future.set_overwrite_module_params_on_conversion, before)
        future.set_overwrite_module_params_on_conversion(True)
        for owner, name, stand_in in stand_ins():
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(Makers())
        stack.enter_context(Operations())  # type: ignore[no-untyped-call]  # torch's class
        yield CUDA


@contextmanager
def waits() -> Iterator[list[str]]:
    """List where the host waits for the device within this block, one entry for each time.

    On a GPU torch's own debug mode finds them, but for explicit calls of ``synchronize``.
    """
    found: list[str] = []
    if torch.cuda.device_count() and not isinstance(torch.zeros(1, device="cuda"), Remote):
        torch.cuda.synchronize()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield found
            finally:
                torch.cuda.set_sync_debug_mode("default")
        seen = [one for one in caught if _WAITED in str(one.message)]
        found += [f"{one.filename}:{one.lineno}" for one in seen]
        return
    open_waits.append(found)
    try:
        yield found
    finally:
        open_waits.remove(found)
