"""Extraction on a GPU, timed by its own events: tables, glimpses, and the alternatives.

Images are packed in one buffer, on the device or in pinned memory of the host, and each gets a
glimpse of 30 windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from fovea import create, geometry
from fovea.bench.device import check_device, device_clock, device_name
from fovea.bench.looks import Crop, draw_looks
from fovea.bench.names import BUILD, COPY, FROM_HOST, GLIMPSE, READ, SEND, TOKENS, WINDOWS
from fovea.bench.photos import Photos, mosaic, read_photos
from fovea.bench.results import GpuExtraction, GpuImages, bytes_moved
from fovea.bench.rivals import grid_sample, interpolate, roi_align, rois
from fovea.bench.tables import Table, number
from fovea.bench.timing import Effort, Task, interleave, ratio
from fovea.images import Packed
from fovea.interfaces import ContextBuilder, PatchExtractor

_NOTE = """\
Milliseconds between events of the device for all images, the median. 'Tables' begin with packed
uint8 pixels on the device, or in pinned memory; 'reading' is told its windows, as the rivals are,
which read a float tensor; 'interpolate' takes one crop at a time, so one image only. An empty cell:
the rival knows no such images."""
_COPY_NOTE = """\
The bytes that an ideal build moves (each pixel read, each entry of the table written) over the time
of the tables, compared with a copy on the device that moves as many."""


@dataclass(frozen=True)
class Group:
    """Images that are measured together: (height, width) of each."""

    label: str
    sizes: tuple[tuple[int, int], ...]

    @property
    def side(self) -> int | None:
        """The side of all images, where they are square and of one size."""
        sides = {side for size in self.sizes for side in size}
        return sides.pop() if len(sides) == 1 else None


def groups(quick: bool) -> dict[str, Group]:
    """List what is measured, by its part in the limits; quick ones are for a CPU, too."""
    many, low, high, side, large = (3, 40, 90, 64, 500) if quick else (1024, 300, 520, 448, 7168)
    drawn = np.random.default_rng(0).integers(low, high + 1, (many, 2)).tolist()
    mixed = tuple((height, width) for height, width in drawn)
    return {
        "many": Group(f"{many} x {side} px", ((side, side),) * many),
        "mixed": Group(f"{many} x {low}-{high} px", mixed),
        "one": Group(f"1 x {side} px", ((side, side),)),
        "large": Group(f"1 x {large} px", ((large, large),)),
    }


def measure_gpu(effort: Effort, folder: Path | None) -> GpuExtraction:
    """Measure everything on the current CUDA device.

    Raises:
        ValueError: there is no CUDA device, or there are no photographs.
    """
    check_device("cuda")
    return measure_groups(groups(quick=False), read_photos(folder), effort, "cuda")


def measure_groups(
    groups: dict[str, Group], photos: Photos, effort: Effort, device: str
) -> GpuExtraction:
    """Measure groups of images on a device, one after the other."""
    measured = {}
    for role, group in groups.items():
        with torch.inference_mode():
            tasks = gpu_tasks(photos, group, torch.device(device))
            seconds = interleave(tasks, effort, device_clock(device))
        measured[role] = GpuImages(group.label, group.sizes, seconds)
    extractor: PatchExtractor = create("patch_extractor", "integral")
    return GpuExtraction(device_name(device), extractor.describe(device), measured, tuple(photos))


def gpu_tasks(photos: Photos, group: Group, device: torch.device) -> dict[str, Task]:
    """List what is timed, for images on a device."""
    host = _packed(photos, group)
    there = host.to(device)
    extractor: PatchExtractor = create("patch_extractor", "integral")
    context: ContextBuilder = create("context_builder", "foveal")
    scene = extractor.prepare(there, device)
    generator = torch.Generator().manual_seed(0)
    gaze = geometry.draw_uniform((len(host), 2), (0.0, 1.0), generator).to(device)
    windows = context.windows(gaze, scene.sizes, None)
    mean, std = torch.full((3,), 0.5, device=device), torch.full((3,), 0.2, device=device)
    source = torch.ones(_moved(group.sizes) // 2, dtype=torch.uint8, device=device)
    target, sent = torch.empty_like(source), torch.empty_like(there.pixels)
    tasks: dict[str, Task] = {
        COPY: lambda _: target.copy_(source),
        BUILD: lambda _: extractor.prepare(there, device),
        SEND: lambda _: sent.copy_(host.pixels, non_blocking=True),
        FROM_HOST: lambda _: extractor.prepare(host, device),
        WINDOWS: lambda _: context.windows(gaze, scene.sizes, None),
        READ: lambda _: scene.read(windows),
        TOKENS: lambda _: scene.tokens(windows, mean, std, torch.bfloat16),
        GLIMPSE: lambda _: scene.read(context.windows(gaze, scene.sizes, None)),
    }
    if group.side is not None:
        edges = geometry.window_edges(windows, scene.sizes).float()  # [B, N, 4]
        tasks |= _rivals(there, group.side, edges)
    return tasks


def _packed(photos: Photos, group: Group) -> Packed:
    """Fill images with the pixels of photographs; in pinned memory, where there is a GPU."""
    shapes = [(height, width, 3) for height, width in group.sizes]
    count = sum(height * width * 3 for height, width in group.sizes)
    widest = max(width for _, width in group.sizes)
    pixels = torch.from_numpy(np.resize(mosaic(photos, widest).ravel(), count))
    return Packed(pixels.pin_memory() if torch.cuda.is_available() else pixels, shapes)


def _rivals(images: Packed, side: int, edges: Tensor) -> dict[str, Task]:
    """List the alternatives for square images of one size: edges of their windows [B, N, 4]."""
    pixels = images.pixels.view(-1, side, side, 3).permute(0, 3, 1, 2)  # [B, 3, H, W]
    tensor, boxes = pixels.float().contiguous(), rois(edges)
    tasks: dict[str, Task] = {
        "float tensor": lambda _: tensor.copy_(pixels),
        "roi_align": lambda _: roi_align(tensor, boxes) / 255,
        "grid_sample": lambda _: grid_sample(tensor, edges) / 255,
    }
    if len(images) == 1:
        crops = draw_looks(1, side, seed=0)[0].crops
        for mode in ("area", "antialias"):
            tasks[f"interpolate {mode}"] = _interpolating(tensor, crops, mode)
    return tasks


def gpu_tables(run: GpuExtraction) -> list[Table]:
    """Set out all that was measured."""
    return [_times(run), _bandwidth(run)]


def _times(run: GpuExtraction) -> Table:
    names = dict.fromkeys(name for group in run.groups.values() for name in group.seconds)
    rows = [["", *(group.label for group in run.groups.values())]]
    for name in names:
        found = [group.seconds.get(name) for group in run.groups.values()]
        rows.append([name, *("" if one is None else number(1000 * median(one)) for one in found)])
    return Table(f"Extraction on {run.device}, ms", rows, f"{_NOTE} Here: {run.chosen}.")


def _bandwidth(run: GpuExtraction) -> Table:
    rows = [["", *(group.label for group in run.groups.values())]]
    speeds, shares = [f"{COPY}, GB/s"], [f"{BUILD}, share of it"]
    for group in run.groups.values():
        speeds.append(number(_moved(group.sizes) / median(group.seconds[COPY]) / 1e9))
        shares.append(f"{100 * ratio(group.seconds, COPY, BUILD):.0f} %")
    return Table("Share of copy bandwidth", [*rows, speeds, shares], _COPY_NOTE)


def _moved(sizes: Sequence[tuple[int, int]]) -> int:
    return sum(bytes_moved(height, width) for height, width in sizes)


def _interpolating(tensor: Tensor, crops: Sequence[Crop], mode: str) -> Task:
    return lambda _: interpolate(tensor, crops, mode) / 255
