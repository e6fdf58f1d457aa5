"""What a device does in one training step: its longest kernels, and how much of the time it works.

The share is of the time of a step that is not profiled, since the profiler slows the host down.
"""

from collections.abc import Iterable, Iterator

from torch._C._autograd import DeviceType
from torch.autograd.profiler_util import EventList, FunctionEvent
from torch.profiler import ProfilerActivity, profile

from fovea.bench.device import device_clock
from fovea.bench.names import OURS
from fovea.bench.tables import Table, number
from fovea.bench.train_step import Plan, step_task

_SHOWN = 20
_WIDTH = 70  # characters of a kernel's name
_NOTE = """\
Kernels by the time that they took in one step from decoded images; on a CPU, operators."""
_BUSY_NOTE = """\
Busy is the time in which the device computes or copies. A launch is one kernel."""


def profile_tables(plan: Plan) -> list[Table]:
    """Profile one step of ours."""
    task = step_task(OURS, plan)
    clock = device_clock(plan.device)
    for index in range(3):  # kernels are compiled, averages are made
        start = clock()
        task(index)
        seconds = clock() - start
    activities = [ProfilerActivity.CPU]
    if plan.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        task(3)
        clock()
    events = profiled.events()
    assert events is not None
    if plan.device == "cpu":
        return [_operators(events)]
    kernels = [one for one in events if _is_kernel(one)]
    return [_summary(kernels, seconds), _longest(kernels)]


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """Add up the time that is in any of some spans (start, end), which may overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _summary(kernels: list[FunctionEvent], seconds: float) -> Table:
    working = busy((one.time_range.start, one.time_range.end) for one in kernels) / 1e6
    launches = sum(not _is_copy(one) for one in kernels)
    rows = [
        ["", ""],
        ["a step, ms", number(1000 * seconds)],
        ["busy, ms", number(1000 * working)],
        ["busy", f"{100 * working / seconds:.0f} %"],
        ["launches", str(launches)],
        ["copies and fills", str(len(kernels) - launches)],
    ]
    return Table("The device in one step", rows, _BUSY_NOTE)


def _longest(kernels: list[FunctionEvent]) -> Table:
    spent: dict[str, list[float]] = {}
    for one in kernels:
        spent.setdefault(one.name, []).append(one.time_range.elapsed_us())
    return _by_time((name, len(times), sum(times)) for name, times in spent.items())


def _operators(events: EventList) -> Table:
    averages = events.key_averages()
    return _by_time((one.key, one.count, one.self_cpu_time_total) for one in averages)


def _by_time(spent: Iterable[tuple[str, int, float]]) -> Table:
    """Show what took the most: name, calls, microseconds."""
    found = sorted(spent, key=lambda one: -one[2])
    whole = sum(microseconds for _, _, microseconds in found)
    rows = [["", "calls", "ms", "%"], *_rows(found[:_SHOWN], whole)]
    return Table("The longest kernels of one step", rows, _NOTE)


def _rows(found: Iterable[tuple[str, int, float]], whole: float) -> Iterator[list[str]]:
    for name, calls, microseconds in found:
        shown = name.replace("|", "/")[:_WIDTH]  # a page's tables are made of bars
        yield [shown, str(calls), number(microseconds / 1000), number(100 * microseconds / whole)]


def _is_kernel(event: FunctionEvent) -> bool:
    """Say whether the device did this: a range that someone named is no work of its own."""
    return event.device_type == DeviceType.CUDA and not event.is_user_annotation


def _is_copy(kernel: FunctionEvent) -> bool:
    return kernel.name.startswith(("Memcpy", "Memset"))
