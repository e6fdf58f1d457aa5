"""What a batch costs before any network sees it, on one thread."""

from pathlib import Path

import torch
from PIL import Image

from fovea.bench.machine import one_thread
from fovea.bench.names import (
    OUR_DECODING,
    OUR_FULL_DECODING,
    OUR_VIEWS,
    THEIR_DECODING,
    THEIR_VIEWS,
)
from fovea.bench.timing import Effort, Samples, Task, interleave
from fovea.bench.train_dino import Crops
from fovea.bench.train_ours import OurTraining
from fovea.bench.train_recipe import objective_config
from fovea.bench.train_step import Plan
from fovea.interfaces import DataSet


def pipeline(plan: Plan, rounds: int) -> Samples:
    """Measure seconds of an image, on the CPU: decoding, and making all of its views."""
    on_cpu = ("device=cpu", "precision=float32")
    ours = OurTraining(plan.recipe(on_cpu))
    full = OurTraining(plan.recipe((*on_cpu, "data.decode=full"))).data
    files = sorted(plan.photos.glob("*.jpg"))[: min(plan.batch, 16)]
    patch, config = plan.recipe().model.patch_size, objective_config(plan.recipe())
    sides = (patch * config.global_crop.grid, patch * config.local_crop.grid)
    crops = Crops(files, *sides, config.locals)
    pictures = [_opened(file) for file in files]
    images = [ours.data.sample(index, 0).image for index in range(len(files))]
    tasks: dict[str, Task] = {
        OUR_DECODING: lambda _: _read(ours.data, len(files)),
        OUR_FULL_DECODING: lambda _: _read(full, len(files)),
        OUR_VIEWS: lambda _: ours.draw(images),
        THEIR_DECODING: lambda _: [_opened(file) for file in files],
        THEIR_VIEWS: lambda _: [crops.transform(picture) for picture in pictures],
    }
    with one_thread(), torch.inference_mode():
        samples = interleave(tasks, Effort(rounds, rounds, 0.0))
    return {name: [one / len(files) for one in times] for name, times in samples.items()}


def _read(data: DataSet, count: int) -> None:
    for index in range(count):
        data.sample(index, 0)


def _opened(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return picture.convert("RGB")
