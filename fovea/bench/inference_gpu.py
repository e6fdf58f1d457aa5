"""Inference on a GPU: 8 glimpses of a ViT-S compared with a plain ViT-S that sees everything.

Times are the device's own. Ours begin with uint8 pixels on the device, the plain ViT's with a
normalised float tensor that it is given for nothing. Both are also measured compiled.
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import timm
import torch
from torch import Tensor, nn

import fovea
from fovea.bench.device import check_device, device_clock, device_name
from fovea.bench.names import BARE, COMPILED_GLIMPSES, COMPILED_PLAIN, GLIMPSES, PLAIN, TABLE
from fovea.bench.photos import Photos, mosaic, read_photos
from fovea.bench.results import GpuInference, GpuPoint, at_side
from fovea.bench.tables import Table, number
from fovea.bench.timing import Effort, Task, interleave
from fovea.images import Packed
from fovea.model import FovealModel

_COUNT = 8  # glimpses
_PATIENCE = 2**25  # pixels of a batch beyond which a plain ViT is measured in bfloat16 only
_NOTE = """\
Milliseconds for the whole batch between events of the device, the median. '8 glimpses' begin with
uint8 pixels on the device, tables and all; the plain ViT with a normalised tensor. Bare blocks are
the transformer blocks alone on the tokens of 8 glimpses. Compiled: ours by model.compile(), the
plain ViT by torch.compile, for one image with mode 'reduce-overhead', a CUDA graph."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        device: where.
        model: name of a model card.
        plain: name of timm's ViT of that size.
        sides: of the square images, in pixels.
        compiled: sides at which the plain ViT is compiled, too; with none, ours is not either.
        batches: images at a time.
        precisions: of the networks.
        effort: of each group of tasks that take turns.
    """

    device: str
    model: str
    plain: str
    sides: tuple[int, ...]
    compiled: tuple[int, ...]
    batches: tuple[int, ...]
    precisions: tuple[str, ...]
    effort: Effort


def measure_gpu(settings: Settings, folder: Path | None) -> GpuInference:
    """Measure everything.

    Raises:
        ValueError: there is no such device, or there are no photographs.
    """
    check_device(settings.device)
    return measure_models(settings, read_photos(folder))


def measure_models(settings: Settings, photos: Photos) -> GpuInference:
    """Measure batch by batch, in each precision."""
    missing: dict[str, str] = {}
    points = []
    for batch in settings.batches:
        for precision in settings.precisions:
            print(f"measuring {batch} images, {precision} ...", file=sys.stderr, flush=True)
            points.append(_point(settings, photos, batch, precision, missing))
    return GpuInference(
        device_name(settings.device), settings.sides, tuple(points), missing, tuple(photos)
    )


def _point(
    settings: Settings, photos: Photos, batch: int, precision: str, missing: dict[str, str]
) -> GpuPoint:
    device, reduced = settings.device, precision == "bfloat16"
    torch.manual_seed(0)
    model = fovea.build_model(settings.model).to(device)
    plain = {side: _plain(settings, side).to(device) for side in settings.sides}
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=reduced):
        tasks = _our_tasks(model, settings, photos, batch)
        for side, network in plain.items():
            if reduced or batch * side**2 <= _PATIENCE:
                pixels = torch.rand(batch, 3, side, side, device=device)
                tasks[at_side(PLAIN, side)] = _calling(network, pixels)
        if settings.compiled:
            where = f"{batch} images, {precision}"
            ours = _compiled_ours(model, settings, photos, batch)
            _try(tasks, ours, f"{COMPILED_GLIMPSES} ({where})", missing)
            for side in settings.compiled:
                theirs = _compiled_plain(plain[side], side, batch, device)
                _try(tasks, theirs, f"{at_side(COMPILED_PLAIN, side)} ({where})", missing)
        seconds = interleave(tasks, settings.effort, device_clock(device))
    torch.compiler.reset()
    return GpuPoint(batch, precision, seconds)


def _our_tasks(
    model: FovealModel, settings: Settings, photos: Photos, batch: int
) -> dict[str, Task]:
    """List 8 glimpses at each image size, the tables by themselves, and the bare blocks."""
    K, D = model.initial_state(1).shape[1:]
    blocks = model.backbone.get_submodule("blocks")
    tokens = torch.randn(batch, K + model.context.num_windows, D, device=settings.device)
    tasks: dict[str, Task] = {BARE: lambda _: [blocks(tokens) for _ in range(_COUNT)]}
    for side in settings.sides:
        images = _images(photos, batch, side, settings.device)
        tasks[at_side(GLIMPSES, side)] = _looking(model, images)
        tasks[at_side(TABLE, side)] = _preparing(model, images)
    return tasks


def _compiled_ours(
    model: FovealModel, settings: Settings, photos: Photos, batch: int
) -> Callable[[], dict[str, Task]]:
    """Make what compiles ours; the size of images is nothing to it."""

    def build() -> dict[str, Task]:
        compiled = copy.deepcopy(model)
        compiled.compile()
        return {
            at_side(COMPILED_GLIMPSES, side): _looking(
                compiled, _images(photos, batch, side, settings.device)
            )
            for side in settings.sides
        }

    return build


def _compiled_plain(
    plain: nn.Module, side: int, batch: int, device: str
) -> Callable[[], dict[str, Task]]:
    """Make what compiles the plain ViT; for one image, where launches cost most, as a graph."""

    def build() -> dict[str, Task]:
        mode = "reduce-overhead" if batch == 1 else "default"
        compiled = torch.compile(copy.deepcopy(plain), mode=mode, dynamic=False)
        pixels = torch.rand(batch, 3, side, side, device=device)
        return {at_side(COMPILED_PLAIN, side): _calling(compiled, pixels)}

    return build


def _try(
    tasks: dict[str, Task],
    build: Callable[[], dict[str, Task]],
    name: str,
    missing: dict[str, str],
) -> None:
    """Add tasks that have run once; or say why they cannot."""
    print(f"compiling {name} ...", file=sys.stderr, flush=True)
    try:
        built = build()
        for task in built.values():
            task(0)
    except RuntimeError as error:  # there is no compiler, say
        missing[name] = (str(error).strip().splitlines() or [type(error).__name__])[0]
    else:
        tasks |= built


def _images(photos: Photos, batch: int, side: int, device: str) -> Packed:
    different = [mosaic(photos, side, first) for first in range(min(batch, len(photos)))]
    return Packed.of([different[i % len(different)] for i in range(batch)]).to(device)


def _plain(settings: Settings, side: int) -> nn.Module:
    built: nn.Module = timm.create_model(settings.plain, img_size=side, num_classes=0)
    return built.eval()


def _looking(model: FovealModel, images: Packed) -> Task:
    generator = torch.Generator(model.device).manual_seed(0)
    return lambda _: model(images, glimpses=_COUNT, generator=generator)


def _preparing(model: FovealModel, images: Packed) -> Task:
    return lambda _: model.prepare(images)


def _calling(network: Callable[[Tensor], Tensor], pixels: Tensor) -> Task:
    return lambda _: network(pixels)


def gpu_inference_tables(run: GpuInference) -> list[Table]:
    """Set out all that was measured, a table for each precision."""
    precisions = dict.fromkeys(point.precision for point in run.points)
    left_out = [f"Not measured: {name}: {why}." for name, why in run.missing.items()]
    note = "\n".join([_NOTE, *left_out])
    return [_times(run, precision, note) for precision in precisions]


def _times(run: GpuInference, precision: str, note: str) -> Table:
    head = ["images", *(f"{side} px" for side in run.sides)]
    rows = [head]
    names = (GLIMPSES, COMPILED_GLIMPSES, TABLE, PLAIN, COMPILED_PLAIN)
    for point in run.points:
        if point.precision == precision:
            found = [[point.seconds.get(at_side(name, side)) for side in run.sides]
                     for name in names]  # fmt: skip
            for name, cells in zip(names, found, strict=True):
                if any(cells):
                    shown = ["" if one is None else number(1000 * median(one)) for one in cells]
                    rows.append([f"{point.batch}: {name}", *shown])
            bare = number(1000 * median(point.seconds[BARE]))
            rows.append([f"{point.batch}: {BARE}", *([bare] * len(run.sides))])
    return Table(f"Inference on {run.device}, {precision}, ms", rows, note)


def settings(device: str, quick: bool, effort: Effort) -> Settings:
    """Return what is measured; quick: a small model on small images, which a CPU can do, too."""
    if quick:
        names = "vitt16_foveal", "vit_tiny_patch16_224"
        return Settings(device, *names, (32, 64), (), (1, 2), ("float32",), effort)
    names = "vits16_foveal", "vit_small_patch16_224"
    sides, precisions = (224, 448, 896, 1792), ("bfloat16", "float32")
    return Settings(device, *names, sides, (224, 448, 896), (1, 32), precisions, effort)
