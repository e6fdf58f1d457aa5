"""Measure a step of pretraining beside a step of multi-crop DINO, and each choice in ours.

Steps begin with decoded images, and once more with views that are ready; loops begin with JPEG
files, read by worker processes. Times are wall time with all cores, or a GPU's own time.
"""

import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from fovea.bench.device import check_device, device_clock, device_name
from fovea.bench.names import COMPILED, DINO, MATMUL, OURS, OURS_FULL, OURS_LARGE, OURS_READY
from fovea.bench.photos import Photos, jpeg, mosaic, read_photos
from fovea.bench.results import Files, Training
from fovea.bench.timing import Effort, Samples, Task, interleave
from fovea.bench.train_changes import changes
from fovea.bench.train_loop import Seconds, dino_loop, our_loop
from fovea.bench.train_memory import peak_memory
from fovea.bench.train_pipeline import pipeline
from fovea.bench.train_recipe import BATCH, LARGE_BATCH, describe_recipe
from fovea.bench.train_step import Plan, image_flops, step_task

_FILES = 64
_SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices
_TOO_SLOW = "it takes minutes, and this is a quick run"
_FULL = ("data.decode=full",)


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        device: cpu or cuda.
        batch: images a step, or None for what suits the device.
        workers: processes that read data.
        sides: of the photographs, which are square, in pixels; steps take the smallest.
        effort: of the steps, which take turns.
        rounds: of the loops over files, which take turns.
        steps: of a loop, in each round.
        photos: a folder of JPEG files, or None for photographs that other packages ship.
        quick: a smaller network and fewer tasks.
    """

    device: str
    batch: int | None
    workers: int
    sides: tuple[int, ...]
    effort: Effort
    rounds: int
    steps: int
    photos: Path | None
    quick: bool


def measure(settings: Settings) -> Training:
    """Measure everything.

    Raises:
        ValueError: there are no photographs, no CUDA device, or no lightly.
    """
    check_device(settings.device)
    if find_spec("lightly") is None:
        raise ValueError("lightly, which has DINO, is missing: pip install 'fovea-vit[bench]'")
    photos = read_photos(settings.photos)
    with tempfile.TemporaryDirectory() as folder:
        batch = settings.batch or BATCH[settings.device]
        count = max(_FILES, batch, LARGE_BATCH if settings.device == "cuda" else 0)
        for side in settings.sides:
            write_photos(photos, side, count, Path(folder) / str(side))
        files = Path(folder) / str(settings.sides[0])
        threads = torch.get_num_threads()
        plan = Plan(settings.device, files, batch, settings.workers, threads, settings.quick)
        return _measure(plan, settings, tuple(photos))


def write_photos(photos: Photos, side: int, count: int, folder: Path) -> None:
    """Write square JPEG files; from as many as there are photographs on, they repeat."""
    folder.mkdir()
    different = [jpeg(mosaic(photos, side, first)) for first in range(min(count, len(photos)))]
    for index in range(count):
        (folder / f"{index:04}.jpg").write_bytes(different[index % len(different)])


def _measure(plan: Plan, settings: Settings, photos: tuple[str, ...]) -> Training:
    _say("counting FLOPs ...")
    flops = image_flops(plan)
    if plan.device == "cuda" and settings.batch is None:
        plan = _fitting(plan)
    names = () if plan.quick else (OURS, DINO, *_further(plan.device))
    found = dict(zip(names, _memory(names, plan), strict=True))
    missing = {name: one for name, one in found.items() if isinstance(one, str)}
    if plan.quick:
        missing |= dict.fromkeys((COMPILED, *_large(plan.device), "peak memory"), _TOO_SLOW)
    steps = _steps(plan, settings, missing)
    files = tuple(_files(plan, settings, side) for side in settings.sides)
    _say("measuring what comes before the network ...")
    recipe = plan.recipe()
    return Training(
        device=device_name(plan.device),
        recipe=describe_recipe(recipe),
        batch=plan.batch,
        large_batch=LARGE_BATCH,
        workers=plan.workers,
        threads=plan.threads,
        precision=recipe.precision,
        flops=flops,
        matmul_flops=matmul_flops(plan.device),
        steps=steps,
        files=files,
        pipeline=pipeline(plan, settings.effort.fewest),
        memory={name: one for name, one in found.items() if isinstance(one, int)},
        missing=missing,
        photos=photos,
    )


def _fitting(plan: Plan) -> Plan:
    """Halve the batch until our step and DINO's fit into the device's memory."""
    while plan.batch > 2 and any(isinstance(one, str) for one in _memory((OURS, DINO), plan)):
        plan = replace(plan, batch=plan.batch // 2)
    return plan


def _memory(names: Iterable[str], plan: Plan) -> list[int | str]:
    """Measure the memory of steps: bytes, or why there are none."""
    found = []
    for name in names:
        _say(f"measuring the memory of {name}, {plan.batch} images ...")
        found.append(peak_memory(name, plan))
    return found


def _steps(plan: Plan, settings: Settings, missing: dict[str, str]) -> Samples:
    names = [OURS, OURS_READY, DINO, *_further(plan.device)]
    tasks: dict[str, Task] = {MATMUL: matmul(plan)}
    for name in names:
        if name not in missing:
            _say(f"building {name} ...")
            tasks[name] = step_task(name, plan)
    _say("measuring steps ...")
    return interleave(tasks, settings.effort, device_clock(plan.device))


def _files(plan: Plan, settings: Settings, side: int) -> Files:
    """Train over files of one size; where they are largest, also with all pixels decoded."""
    _say(f"measuring steps over files of {side} px ...")
    plan = replace(plan, photos=plan.photos.parent / str(side))
    seconds, steps = Seconds(), settings.steps
    loops = {OURS: our_loop(plan, steps, seconds), DINO: dino_loop(plan, steps, seconds)}
    if side == settings.sides[-1]:
        loops[OURS_FULL] = our_loop(plan, steps, seconds, _FULL)
    samples = interleave(loops, Effort(settings.rounds, settings.rounds, 0.0), seconds)
    splits = {name: loop.splits[-settings.rounds :] for name, loop in loops.items()}
    return Files(side, samples, splits)


def _further(device: str) -> list[str]:
    """List our further steps: with the recipe's own batch, or changed."""
    return [*_large(device), *changes(device)]


def _large(device: str) -> list[str]:
    return [OURS_LARGE] if device == "cuda" else []


def matmul_flops(device: str) -> int:
    """Count the FLOPs of ``matmul``."""
    return 2 * _SIDES[device] ** 3


def matmul(plan: Plan) -> Task:
    """Multiply large matrices: the most that the machine can do."""
    side = _SIDES[plan.device]
    dtype = getattr(torch, plan.recipe().precision)
    one, other = (torch.randn(side, side, device=plan.device).to(dtype) for _ in range(2))
    return lambda _: one @ other


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
