"""Find out without a GPU whether the host would wait for one: run code on the device meta.

Tensors there have no numbers, so whoever fetches one, or has to count (``nonzero``, indexing by a
mask), fails. ``MetaOnly`` refuses what else would stop the host: numbers sent from the CPU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


class MetaOnly(TorchDispatchMode):
    """Refuses to bring tensors of the CPU and of meta together; scalars of Python are welcome."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        tensors = [one for one in tree_leaves((args, given)) if isinstance(one, Tensor)]
        sent = any(one.device.type == "cpu" for one in tensors)
        there = given.get("device") == META or any(one.device == META for one in tensors)
        if sent and there:
            raise AssertionError(f"{func} is sent numbers of the CPU")
        return func(*args, **given)
