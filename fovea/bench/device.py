"""The device that is measured: whether it is there, its name, its clock and its memory."""

import gc
import subprocess
import time
from collections.abc import Callable
from functools import cache
from shutil import which

import torch

from fovea.bench.timing import Clock


def check_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        ValueError: there is no CUDA device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device on this machine")


def device_name(device: str) -> str:
    """Return the name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


@cache
def describe_card() -> str:
    """Name the GPU, its memory, its driver and the version of CUDA that torch was built for."""
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    words = [name, f"{memory / 1e9:.0f} GB", f"CUDA {torch.version.cuda}", f"driver {_driver()}"]
    return ", ".join(words)


def device_clock(device: str) -> Clock:
    """Return what tells the time of work on a device, in seconds."""
    return EventClock() if device == "cuda" else time.perf_counter


class EventClock:
    """Tells the GPU's time, in seconds, once all that was asked of it before is done."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.last = _record()

    def __call__(self) -> float:
        """Return the seconds since the clock was made."""
        now = _record()
        now.synchronize()
        self.seconds += self.last.elapsed_time(now) / 1000  # float32: exact for short times only
        self.last = now
        return self.seconds


def peak_of(work: Callable[[], object], device: str) -> int:
    """Do some work; return the bytes that it added at its peak, 0 on a CPU.

    Raises:
        torch.OutOfMemoryError: they are not there.
    """
    if device != "cuda":
        work()
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before


def _record() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _driver() -> str:
    """Ask the driver for its version."""
    command = which("nvidia-smi")
    if command is None:
        return "unknown"
    asked = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
    return (done.stdout.split() or ["unknown"])[0]
