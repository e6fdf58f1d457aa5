"""The memory that a step needs at its peak, measured in a process of its own.

On a GPU it is what torch has allocated. On a CPU it is the resident memory of the process, less
what it had before the networks were built.
"""

import re
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from fovea.bench.train_step import Plan, step_task

_STEPS = 2  # the optimiser makes its averages in the first


def peak_memory(name: str, plan: Plan) -> int | str:
    """Make steps of a task; return the bytes, or why it cannot be done."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_measure, name, plan).result()


def _measure(name: str, plan: Plan) -> int | str:
    torch.set_num_threads(plan.threads)
    before = _resident()
    try:
        task = step_task(name, plan)
        for index in range(_STEPS):
            task(index)
    except torch.OutOfMemoryError:
        return f"out of memory with {plan.batch} images"
    except RuntimeError as error:  # there is no compiler, say
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    if plan.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return _resident() - before


def _resident() -> int:
    """Return the most that this process ever had in memory, in bytes.

    Linux counts what a process was before it became this program; there, its own peak is read.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        assert peak is not None
        return 1024 * int(peak[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
