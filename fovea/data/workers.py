"""The processes that read data: whatever befalls one is a sentence that names it, never a hang."""

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader

from fovea import collective

T = TypeVar("T")
_DYING = 1.0  # seconds


class ReadingError(ValueError):
    """Data cannot be read, for a reason that is no single image's."""


@dataclass(frozen=True)
class Failure:
    """An error as plain text: some errors cannot be sent from one process to another."""

    text: str

    @classmethod
    def of(cls, error: Exception, what: str) -> "Failure":
        """Say in a line what failed, how and where."""
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return cls(f"{what}: {said} ({where.filename}:{where.lineno})")


class Reading(Iterator[T], Generic[T]):
    """What a loader reads, in its order.

    Args:
        loader: with or without workers, without persistent ones.
    """

    def __init__(self, loader: "DataLoader[Any]"):
        self.timeout = loader.timeout
        self.iterator = iter(loader)
        self.workers: list[BaseProcess] = getattr(self.iterator, "_workers", [])
        self.taken = 0

    def __next__(self) -> T:
        """Wait for the next.

        Raises:
            ReadingError: it cannot be read, its process died, or takes longer than the timeout.
        """
        with self.named():
            try:
                found: T | Failure = next(self.iterator)
            except RuntimeError as error:
                if "timed out" not in str(error):
                    raise
                late = f"{self._turn()} has read nothing for {self.timeout:g} s"
                raise ReadingError(late) from error
        if isinstance(found, Failure):
            raise ReadingError(f"{self._turn()} cannot read {found.text}")
        self.taken += 1
        return found

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the worker where one has died: torch raises for that anywhere within this block.

        Raises:
            ReadingError: a worker has died.
        """
        try:
            yield
        except RuntimeError as error:
            self._await_an_end()
            for number, worker in enumerate(self.workers):
                if worker.exitcode is not None:
                    raise ReadingError(f"{self._name(number)} {_end(worker.exitcode)}") from error
            raise

    def close(self) -> None:
        """End the workers at once, hung ones too: they have nothing to finish."""
        before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would take it for a fault
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.join()
        del self.iterator
        signal.signal(signal.SIGCHLD, before)

    def _await_an_end(self) -> None:
        """Give a worker time to end: what failed may come of it before it is known to be dead."""
        sentinels = [worker.sentinel for worker in self.workers]
        with suppress(RuntimeError):  # torch raises in here as soon as it is known
            ended = wait(sentinels, _DYING if sentinels else 0)
            for worker in self.workers:
                if worker.sentinel in ended:
                    worker.join()

    def _turn(self) -> str:
        """Name the process whose turn it is: workers take turns."""
        return self._name(self.taken % len(self.workers) if self.workers else 0)

    def _name(self, number: int) -> str:
        rank = f"rank {collective.rank()}"
        return f"data worker {number} of {len(self.workers)} of {rank}" if self.workers else rank


def _end(code: int) -> str:
    """Say how a process ended."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
