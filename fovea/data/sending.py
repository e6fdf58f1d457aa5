"""Images on their way from a worker to the trainer: memory that both processes map.

Through multiprocessing's pipe a batch of large photographs, which is hundreds of megabytes, is
copied five times, and the trainer waits for three of them. Torch's shared tensors are served by a
thread of the worker, and lie in ``/dev/shm``, which is 64 MB in many containers. A file that is in
memory only (``memfd``) needs neither: the trainer opens it through ``/proc``.
"""

import os
from collections import deque
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from fovea.images import Array, Packed, Unopened, packable

_KEPT = 4  # a worker reads at most two batches before the trainer has opened an earlier one
_open: deque[int] = deque()


class Parcel:
    """Images that can be sent; what arrives is a sequence of them.

    In a worker of a Linux machine images that can be packed travel in shared memory and arrive
    ``Packed``; elsewhere, as images that are not opened yet, they arrive by value in a list.
    """

    def __init__(self, images: Sequence[Array | Unopened]):
        self.images = list(images)

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell where the images lie; called in the worker when the batch is sent."""
        images = self.images
        if get_worker_info() is not None and _can_share() and packable(images):
            path = _shared(images)
            if path is not None:
                return _arrived, (path, [image.shape for image in images])
        return list, (self.images,)


def _shared(images: Sequence[Array]) -> str | None:
    """Write images, one after the other, to a file in memory; None where there is no room."""
    number = os.memfd_create("fovea")
    _open.append(number)
    if len(_open) > _KEPT:
        os.close(_open.popleft())
    try:
        with open(number, "wb", closefd=False) as file:
            for image in images:
                file.write(np.ascontiguousarray(image).data)
    except OSError:
        return None
    return f"/proc/{os.getpid()}/fd/{number}"


def _arrived(path: str, shapes: Sequence[tuple[int, int, int]]) -> Packed:
    """Map the images; their memory is given back when the last of them is forgotten."""
    size = sum(prod(shape) for shape in shapes)
    if not size:  # what is empty cannot be mapped
        return Packed(torch.empty(0, dtype=torch.uint8), shapes)
    return Packed(torch.from_file(path, shared=True, size=size, dtype=torch.uint8), shapes)


@cache
def _can_share() -> bool:
    """Whether this system has files in memory, and lets processes open each other's."""
    if not hasattr(os, "memfd_create"):
        return False
    number = os.memfd_create("fovea")
    try:
        with open(f"/proc/{os.getpid()}/fd/{number}", "r+b"):
            return True
    except OSError:
        return False
    finally:
        os.close(number)
