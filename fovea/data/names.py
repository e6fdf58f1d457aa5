"""Names of millions of images, in two arrays that worker processes share."""

from collections.abc import Iterable, Sequence

import numpy as np


class Names(Sequence[str]):
    """A list of names without a Python object for each.

    A worker that so much as looks at a Python object writes its reference count, and so copies the
    page that it lies on: with a million images each worker would in time hold its own list.
    """

    def __init__(self, names: Iterable[str]):
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self.text = np.frombuffer(b"".join(encoded), np.uint8)
        self.ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices
        encoded = self.text[self.ends[index] : self.ends[index + 1]].tobytes()
        return encoded.decode("utf-8", "surrogateescape")


def printable(name: str) -> str:
    """Escape what would break a line of a log, or its encoding: file names may hold any bytes."""
    return name if name.isprintable() else repr(name)[1:-1]
