"""What processes that train together add up or gather; with one process, everything stays as it is.

A loss is written so that its mean over the processes is the loss of the whole batch.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def world() -> int:
    """Count the processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if world() > 1 else 0


def total(values: Tensor) -> Tensor:
    """Add up over the processes; gradients reach every process's own values."""
    if world() == 1:
        return values
    summed: Tensor = _Sum.apply(values)
    return summed


def largest(values: Tensor) -> Tensor:
    """Take the maximum over the processes, element by element; no gradient."""
    if world() == 1:
        return values
    found = values.detach().clone()
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return found


def gathered(rows: Tensor) -> Tensor:
    """Join the rows [B, ...] of all processes, in their order; one's own rows keep their gradient.

    Numbers of rows may differ.
    """
    if world() == 1:
        return rows
    # counts are exchanged on the CPU, by gloo: on a GPU the host would wait for all that is queued
    counts = [torch.zeros((), dtype=torch.int64) for _ in range(world())]
    dist.all_gather(counts, torch.tensor(len(rows)))
    padded = rows.new_zeros((max(int(one) for one in counts), *rows.shape[1:]))
    padded[: len(rows)] = rows.detach()
    everyone = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(everyone, padded)
    parts = [part[: int(count)] for part, count in zip(everyone, counts, strict=True)]
    parts[rank()] = rows
    return torch.cat(parts)


def everyones(value: Tensor) -> Tensor:
    """Weigh a value that every process has computed alike from gathered rows.

    Its gradient reaches one's own rows only; times the number of processes, the mean is right.
    """
    return value + (world() - 1) * (value - value.detach())


def local(module: nn.Module) -> list[Tensor]:
    """List a module's parameters, of sharded ones the part that is here."""
    parameters = list(module.parameters())
    return [one.to_local() if isinstance(one, DTensor) else one for one in parameters]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(context: object, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        dist.all_reduce(summed)
        return summed
