"""Keep a computation in full precision inside an autocast region."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Switch autocast off, as context manager or decorator: for geometry, reading and losses.

    A bfloat16 gaze moves a patch by up to 14 pixels at 7168; a bfloat16 Sinkhorn is wrong.
    """
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    else:  # to switch off what is off would take as long as reading five windows
        yield
