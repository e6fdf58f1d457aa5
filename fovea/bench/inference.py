"""Measure inference: 8 glimpses of a ViT-S beside a plain ViT-S that sees the whole image.

Times are wall time with all cores, for images that are decoded: ours begin with uint8 pixels, the
plain ViT's with a normalised float tensor that it is given for nothing.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import fovea
from fovea.bench import photos as photographs
from fovea.bench.names import (
    BACKBONE,
    BARE,
    GLIMPSES,
    LEARNED,
    PLAIN,
    POLICY,
    READING,
    TABLE,
)
from fovea.bench.photos import Photos, mosaic
from fovea.bench.results import Inference, Point
from fovea.bench.timing import Effort, Task, interleave
from fovea.draws import draw
from fovea.images import Array
from fovea.interfaces import GazePolicy
from fovea.model import FovealModel

_ARCH = "vit_small_patch16_224"
_COUNT = 8  # glimpses
_LONGEST = 20.0  # seconds that one forward of the plain ViT may be expected to take


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        sides: of the square images, in pixels, multiples of 16.
        batches: images at a time.
        effort: of each group of tasks that take turns.
        photos: a folder of JPEG files, or None for photographs that other packages ship.
    """

    sides: tuple[int, ...]
    batches: tuple[int, ...]
    effort: Effort
    photos: Path | None


def measure(settings: Settings) -> Inference:
    """Measure everything, with as many threads as torch takes.

    Raises:
        ValueError: there are no photographs.
    """
    photos = photographs.read_photos(settings.photos)
    model = fovea.build_model("vits16_foveal")
    glimpses_flops = _COUNT * _glimpse_flops(model)
    plain_flops = {side: _plain_flops(side) for side in sorted(settings.sides)}
    points = []
    with torch.inference_mode():
        for batch in settings.batches:
            for side, flops in plain_flops.items():
                print(f"measuring {batch} x {side} px ...", file=sys.stderr, flush=True)
                images = _images(photos, batch, side)
                tasks = _tasks(model, images)
                skipped = _add_plain(tasks, batch, side, flops / glimpses_flops)
                seconds = interleave(tasks, settings.effort, time.perf_counter)
                points.append(Point(batch, side, seconds, skipped))
    return Inference(
        tuple(points), glimpses_flops, plain_flops, torch.get_num_threads(), tuple(photos)
    )


def _images(photos: Photos, batch: int, side: int) -> list[Array]:
    different = [mosaic(photos, side, first) for first in range(min(batch, len(photos)))]
    return [different[i % len(different)] for i in range(batch)]


def _tasks(model: FovealModel, images: list[Array]) -> dict[str, Task]:
    """List the whole, the blocks that no ViT-S can do without, and each part by itself."""
    B = len(images)
    generator = torch.Generator().manual_seed(0)
    scene = model.prepare(images)
    state = model.initial_state(B)
    gazes = torch.rand(_COUNT, B, 2, dtype=torch.float64, generator=generator)
    windows = model.context.windows(gazes[0], scene.sizes, None)
    patches = scene.read(windows)
    blocks = model.backbone.get_submodule("blocks")
    tokens = torch.randn(B, state.shape[1] + windows.shape[1], state.shape[2], generator=generator)

    def read(i: int) -> Tensor:
        return scene.read(model.context.windows(gazes[i], scene.sizes, None))

    def gaze(policy: GazePolicy) -> Task:
        return _repeated(lambda _: draw(policy(state), generator))

    return {
        GLIMPSES: lambda _: model(images, glimpses=_COUNT, generator=generator),
        BARE: _repeated(lambda _: blocks(tokens)),
        TABLE: lambda _: model.prepare(images),
        READING: _repeated(read),
        BACKBONE: _repeated(lambda _: model.backbone(patches, windows, state)),
        POLICY: gaze(model.policy),
        LEARNED: gaze(_learned_policy(model)),
    }


def _repeated(once: Callable[[int], object]) -> Task:
    """Do what one glimpse needs, once for each glimpse."""

    def task(_: int) -> None:
        for i in range(_COUNT):
            once(i)

    return task


def _learned_policy(model: FovealModel) -> GazePolicy:
    width, tokens = model.backbone.width, model.backbone.num_state_tokens
    policy: GazePolicy = fovea.create("gaze_policy", "gmm", width=width, num_state_tokens=tokens)
    return policy.eval()


def _add_plain(tasks: dict[str, Task], batch: int, side: int, work: float) -> str:
    """Add the plain ViT, unless ``work`` times our FLOPs would take too long; then say so."""
    tasks[BARE](0)
    start = time.perf_counter()
    tasks[BARE](0)
    expected = work * (time.perf_counter() - start)
    if expected > _LONGEST:
        return f"expected to take {expected:.0f} s"
    plain = _plain(side)
    pixels = torch.rand(batch, 3, side, side)
    tasks[PLAIN] = lambda _: plain(pixels)
    return ""


def _plain(side: int) -> VisionTransformer:
    return timm.create_model(_ARCH, img_size=side, num_classes=0).eval()


def _plain_flops(side: int) -> int:
    """Count the plain ViT's FLOPs, without computing anything."""
    with torch.device("meta"):
        plain, pixels = _plain(side), torch.empty(1, 3, side, side)
    return _flops(lambda: plain(pixels))


def _glimpse_flops(model: FovealModel) -> int:
    """Count the backbone's FLOPs for one glimpse at one image; reading has hardly any."""
    scene = model.prepare(np.zeros((224, 224, 3), np.uint8))
    gaze, state = torch.full((1, 2), 0.5), model.initial_state(1)
    windows = model.context.windows(gaze, scene.sizes, None)
    patches = scene.read(windows)
    return _flops(lambda: model.backbone(patches, windows, state))


def _flops(compute: Callable[[], object]) -> int:
    """Count floating-point operations in matrix products, a multiply-add as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        compute()
    return int(counter.get_total_flops())
