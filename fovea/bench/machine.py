"""The machine: what it is, and how to keep a measurement to one thread."""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from fovea import __version__

_PACKAGES = (
    *("torch", "torchvision", "timm", "numpy", "pillow"),
    *("opencv-python-headless", "numba", "kornia"),
)


def describe() -> dict[str, str]:
    """Say what was measured where: date, processor, versions, command."""
    found = {name: _version(name) for name in _PACKAGES}
    versions = [f"fovea {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {number}" for name, number in found.items() if number]
    return {
        "date": str(date.today()),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "versions": ", ".join(versions),
        "command": " ".join(["python -m fovea.bench", *sys.argv[1:]]),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch and OpenCV to the calling thread, whose clock is read."""
    if find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    """Name the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
