"""Extraction on a CUDA device, timed by its own events: tables, glimpses, and the alternatives.

The images lie on the device as uint8 from the start, and each gets a glimpse of 30 windows.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from fovea import create, geometry
from fovea.bench.looks import Crop, draw_looks
from fovea.bench.names import BUILD, COPY, GLIMPSE
from fovea.bench.photos import Photos, mosaic, read_photos
from fovea.bench.results import GpuExtraction, bytes_moved
from fovea.bench.rivals import grid_sample, interpolate, roi_align, rois
from fovea.bench.tables import Table, number
from fovea.bench.timing import Effort, Task, interleave, ratio
from fovea.interfaces import ContextBuilder, PatchExtractor

_SIDE = 448
_BATCHES = (1, 1024)
_NOTE = """\
Time between CUDA events for the whole batch, and its ratio to 'integral: glimpse'. Rivals read a
float tensor and are told their windows beforehand; 'interpolate' takes one crop at a time, so one
image only."""
_COPY_NOTE = """\
Bytes moved per second, over those of a copy on the device: image read and table written for the
tables (a byte copied is one read and one written)."""


class EventClock:
    """Tells the device's time, in seconds, once all that was asked of it before is done."""

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


def measure_gpu(effort: Effort, folder: Path | None) -> GpuExtraction:
    """Measure everything on the current CUDA device.

    Raises:
        ValueError: there is no CUDA device, or there are no photographs.
    """
    if not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device on this machine")
    photos = read_photos(folder)
    batches = {}
    with torch.inference_mode():
        for batch in _BATCHES:
            tasks = gpu_tasks(photos, batch, _SIDE, torch.device("cuda"))
            batches[batch] = interleave(tasks, effort, EventClock())
    return GpuExtraction(torch.cuda.get_device_name(), _SIDE, batches, tuple(photos))


def gpu_tasks(photos: Photos, batch: int, side: int, device: torch.device) -> dict[str, Task]:
    """List what is timed, for a batch of images on a device."""
    images = _images(photos, batch, side).to(device)  # uint8 [B, 3, H, W]
    extractor: PatchExtractor = create("patch_extractor", "integral")
    context: ContextBuilder = create("context_builder", "foveal")
    listed = list(images)
    scene = extractor.prepare(listed, device)
    generator = torch.Generator().manual_seed(0)
    gaze = geometry.draw_uniform((batch, 2), (0.0, 1.0), generator).to(device)
    windows = context.windows(gaze, scene.sizes, None)
    edges = geometry.window_edges(windows, scene.sizes).float()  # [B, N, 4]
    boxes = rois(edges)
    tensor = images.float()
    source = torch.ones(batch * bytes_moved(side) // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    tasks: dict[str, Task] = {
        COPY: lambda _: target.copy_(source),
        BUILD: lambda _: extractor.prepare(listed, device),
        "float tensor": lambda _: tensor.copy_(images),
        GLIMPSE: lambda _: scene.read(context.windows(gaze, scene.sizes, None)),
        "roi_align": lambda _: roi_align(tensor, boxes) / 255,
        "grid_sample": lambda _: grid_sample(tensor, edges) / 255,
    }
    if batch == 1:
        crops = draw_looks(1, side, seed=0)[0].crops
        for mode in ("area", "antialias"):
            tasks[f"interpolate {mode}"] = _interpolating(tensor, crops, mode)
    return tasks


def gpu_tables(run: GpuExtraction) -> list[Table]:
    """Set out all that was measured."""
    return [_times(run), _bandwidth(run)]


def _times(run: GpuExtraction) -> Table:
    head = [""]
    for batch in run.batches:
        head += [f"{batch} x {run.side} px, ms", "/ glimpse"]
    rows = [head]
    for name in run.batches[1]:
        row = [name]
        for samples in run.batches.values():
            known = name in samples
            row.append(number(1000 * median(samples[name])) if known else "")
            row.append(number(ratio(samples, name, GLIMPSE)) if known else "")
        rows.append(row)
    return Table(f"Extraction on {run.device}", rows, _NOTE)


def _bandwidth(run: GpuExtraction) -> Table:
    rows = [["", *(f"{batch} x {run.side} px" for batch in run.batches)]]
    speeds, shares = ["copy, GB/s"], [BUILD]
    for batch, samples in run.batches.items():
        moved = batch * bytes_moved(run.side)
        speeds.append(number(moved / median(samples[COPY]) / 1e9))
        shares.append(f"{100 * ratio(samples, COPY, BUILD):.0f} %")
    return Table("Share of copy bandwidth", [*rows, speeds, shares], _COPY_NOTE)


def _images(photos: Photos, batch: int, side: int) -> Tensor:
    """Repeat the photographs: -> uint8 [B, 3, H, W]."""
    count = min(batch, len(photos))
    different = torch.stack([torch.from_numpy(mosaic(photos, side, i)) for i in range(count)])
    order = torch.arange(batch) % count
    return different.permute(0, 3, 1, 2)[order].contiguous()


def _interpolating(tensor: Tensor, crops: Sequence[Crop], mode: str) -> Task:
    return lambda _: interpolate(tensor, crops, mode) / 255


def _record() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
