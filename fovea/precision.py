"""Keep a computation in full precision inside an autocast region."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch autocast off, as context manager or decorator: for geometry, reading and losses.

    A bfloat16 gaze moves a patch by up to 14 pixels at 7168; a bfloat16 Sinkhorn is wrong.
    """
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield
