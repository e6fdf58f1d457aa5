"""Parts of a long measurement: each in a process of its own, which may fail, die or hang.

What a part finds is kept from the moment that it is found, whatever becomes of the part.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from fovea.bench.limits import NotMeasured, Verdict
from fovea.bench.tables import Table, number

_CORES_EACH = 4  # of parts that run side by side
_SIDE_BY_SIDE = 4
_TAIL = 3000  # characters of what a part printed that are kept when it fails
_TEARDOWN = 10.0  # seconds that a process has to end by itself, after its last word
_CONTEXT = get_context("forkserver")


@dataclass(frozen=True)
class Setting:
    """What all parts are told.

    Attributes:
        device: cpu or cuda.
        quick: whether everything is to be small.
        folder: for their files.
        photos: a folder of JPEG files, or None for photographs that other packages ship.
        threads: of all processes that run at the same time.
    """

    device: str
    quick: bool
    folder: Path
    photos: Path | None
    threads: int


@dataclass(frozen=True)
class Finding:
    """Something that a part found.

    Attributes:
        checks: it fails where one is missed.
        goals: that are told, and missed at no cost.
        tables: to show.
    """

    checks: tuple[Verdict, ...] = ()
    goals: tuple[Verdict, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Part:
    """A part.

    Attributes:
        name: what lines and pages call it.
        work: does it, finding by finding; raises NotMeasured where it cannot be done here.
        seconds: that it may take.
        alone: whether it needs the machine to itself, as whatever measures time does.
    """

    name: str
    work: Callable[[Setting], Iterator[Finding]]
    seconds: float
    alone: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        name: of the part.
        seconds: that it took.
        result: ``ok``, ``FAILED: why`` or ``not measured: why``.
        findings: up to its end.
        printed: the end of what it printed, where it failed.
    """

    name: str
    seconds: float
    result: str
    findings: tuple[Finding, ...] = ()
    printed: str = ""

    @property
    def is_failed(self) -> bool:
        """Say whether something is wrong."""
        return self.result.startswith("FAILED")

    def __str__(self) -> str:
        shown = f"ok {self.seconds:.0f} s" if self.result == "ok" else self.result
        return f"{self.name}: {shown}"


def run_parts(
    parts: Sequence[Part], setting: Setting, seconds: float, tell: Callable[[Outcome], None]
) -> None:
    """Run all parts, first those that may run side by side; call ``tell`` as each ends.

    Args:
        parts: in their order.
        setting: for all.
        seconds: that all may take together; what is left out then is not measured.
        tell: called in this thread.
    """
    end = time.monotonic() + seconds
    modules = [__name__, *dict.fromkeys(part.work.__module__ for part in parts)]
    _CONTEXT.set_forkserver_preload(modules)  # imported once, not by each process
    together = [part for part in parts if not part.alone]
    lanes = max(1, min(_SIDE_BY_SIDE, (os.cpu_count() or 1) // _CORES_EACH))
    with ThreadPoolExecutor(lanes) as pool:
        beside = replace(setting, threads=max(1, setting.threads // lanes))
        for done in as_completed([pool.submit(run_part, one, beside, end) for one in together]):
            tell(done.result())
    for part in parts:
        if part.alone:
            tell(run_part(part, setting, end))


def run_part(part: Part, setting: Setting, end: float) -> Outcome:
    """Run one part, no longer than it may and than to ``end`` of time.monotonic."""
    start = time.monotonic()
    limit = min(part.seconds, end - start)
    if limit <= 0:
        return Outcome(part.name, 0.0, "not measured: no time was left")
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    log = setting.folder / f"{part.name.replace(' ', '_')}.log"
    process = _CONTEXT.Process(target=_work, args=(part.work, setting, sender, log))
    process.start()
    assert process.pid is not None
    sender.close()  # the other end is the process's alone: when it dies, there is an EOFError
    findings: list[Finding] = []
    result = None
    try:
        while result is None:
            if receiver.poll(max(0.0, start + limit - time.monotonic())):
                finding, result = receiver.recv()
                findings.append(finding)
                process.join(_TEARDOWN if result else 0)
            else:
                result = f"FAILED: it had not ended after {limit:.0f} s"
    except EOFError:
        process.join()
        result = f"FAILED: its process ended with exit code {process.exitcode}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and whatever it has started
        process.kill()
        process.join()
    is_failed, took = result.startswith("FAILED"), time.monotonic() - start
    return Outcome(part.name, took, result, tuple(findings), _tail(log) if is_failed else "")


def _work(
    work: Callable[[Setting], Iterator[Finding]],
    setting: Setting,
    sender: "Connection[tuple[Finding, str | None], None]",
    log: Path,
) -> None:
    """Do a part in its process: send each finding, and with the last one the result."""
    os.setsid()
    _print_to(log)
    os.environ["OMP_NUM_THREADS"] = str(setting.threads)
    torch.set_num_threads(setting.threads)
    missed: list[str] = []
    try:
        for finding in work(setting):
            missed += [_told(one) for one in finding.checks if one.measured is not None
                       and not one.holds]  # fmt: skip
            sender.send((finding, None))
        result = f"FAILED: {'; '.join(missed)}" if missed else "ok"
    except NotMeasured as reason:
        result = f"not measured: {reason}"
    except Exception as error:  # whatever goes wrong is what the part has found
        traceback.print_exc()
        result = f"FAILED: {_sentence(error)}"
    sender.send((Finding(), result))


def _told(verdict: Verdict) -> str:
    assert verdict.measured is not None
    asked = f"{verdict.sign} {number(verdict.value)}"
    return f"{verdict.name}: {number(verdict.measured)}, asked for {asked}"


def _sentence(error: Exception) -> str:
    """Tell an error in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


def _print_to(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-_TAIL:] if log.is_file() else ""
