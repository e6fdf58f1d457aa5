"""Measure extraction: build, glimpse and error of every contender at every image size, in one run.

A glimpse is the 30 windows of context ``foveal`` on one image, 16 x 16 pixels each. Times are
processor time of one thread. Before each glimpse that is timed, a ViT-S's blocks run on the tokens
of one, as they do in a model: they leave the caches as a glimpse finds them.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor

from fovea import create
from fovea.bench import photos as photographs
from fovea.bench.contenders import Contender, extractors, tables
from fovea.bench.looks import Look, draw_looks
from fovea.bench.machine import one_thread
from fovea.bench.names import BLOCKS, COPY, DECODE, INTEGRAL, NAIVE, ORACLE
from fovea.bench.photos import Photos, decode, jpeg, mosaic
from fovea.bench.results import Error, Extraction, Side, bytes_moved, growth_key
from fovea.bench.rivals import rivals
from fovea.bench.timing import Effort, Samples, Task, interleave
from fovea.images import Array
from fovea.interfaces import ContextBuilder, PatchExtractor, Scene

_CONTEXTS = ("foveal", "grid")  # 30 windows, and 256
_GAZES = 32
_FEWEST_LOOKS = 3


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
        sides: of the square images, in pixels.
        effort: of each group of tasks that take turns.
        error_looks: glimpses whose error is measured, at most, per image size.
        photos: a folder of JPEG files, or None for photographs that other packages ship.
    """

    sides: tuple[int, ...]
    effort: Effort
    error_looks: int
    photos: Path | None


def measure(settings: Settings) -> Extraction:
    """Measure everything, on one thread.

    Raises:
        ValueError: there are no photographs.
    """
    photos = photographs.read_photos(settings.photos)
    missing: dict[str, str] = {}
    with one_thread(), torch.inference_mode():
        ours, others = extractors(missing), rivals(missing)
        contenders = ours + others
        builders = {
            one.preparation: one.prepare
            for one in tables(missing) + contenders
            if one.preparation != "none"
        }
        blocks = _blocks()
        sides = []
        for side in sorted(settings.sides):
            print(f"measuring at {side} px ...", file=sys.stderr, flush=True)
            image = mosaic(photos, side)
            builds = interleave(_build_tasks(builders, image), settings.effort)
            glimpses = _glimpses(contenders, image, settings.effort, blocks)
            looks = _error_looks(settings.error_looks, side)
            errors = _errors(contenders, photos, side, looks)
            sides.append(Side(side, builds, glimpses, errors))
        print("measuring growth ...", file=sys.stderr, flush=True)
        growth = _growth(photos, settings, blocks)
    return Extraction(
        tuple(sides),
        growth,
        tuple(one.name for one in ours),
        tuple(one.name for one in others),
        {one.name: one.preparation for one in contenders},
        create("patch_extractor", INTEGRAL).describe("cpu"),
        missing,
        tuple(photos),
    )


def _build_tasks(
    builders: Mapping[str, Callable[[Array], object]], image: Array
) -> dict[str, Task]:
    data = jpeg(image)
    planar = torch.from_numpy(image).permute(2, 0, 1)  # [3, H, W]
    source = np.ones(
        bytes_moved(*image.shape[:2]) // 2, np.uint8
    )  # what is copied is read and written
    target = np.ones_like(source)
    tasks: dict[str, Task] = {
        DECODE: lambda _: decode(data),
        NAIVE: lambda _: planar.cumsum(1, dtype=torch.int32).cumsum(2, dtype=torch.int32),
        COPY: lambda _: np.copyto(target, source),
    }
    return tasks | {name: _building(prepare, image) for name, prepare in builders.items()}


def _building(prepare: Callable[[Array], object], image: Array) -> Task:
    return lambda _: prepare(image)


def _blocks() -> Callable[[], Tensor]:
    """Return what runs a ViT-S's blocks on the tokens of a glimpse."""
    blocks = timm.create_model("vit_small_patch16_224").blocks.eval()
    tokens = torch.randn(1, 38, 384, generator=torch.Generator().manual_seed(0))
    return lambda: blocks(tokens)


def _glimpses(
    contenders: list[Contender], image: Array, effort: Effort, blocks: Callable[[], Tensor]
) -> Samples:
    """Time a glimpse of each; those who prepare the same share it, so that memory stays small."""
    looks = draw_looks(_GAZES, len(image), seed=0)
    prepared = {one.preparation: one.prepare(image) for one in contenders}
    tasks = {one.name: _looking(one, prepared[one.preparation], looks) for one in contenders}
    return interleave(tasks, effort, between=blocks)


def _glimpsing(scene: Scene, context: ContextBuilder, looks: list[Look]) -> Task:
    """Find the windows of a gaze and read them, as a model does."""

    def task(unit: int) -> None:
        gaze = looks[unit % len(looks)].gaze
        scene.read(context.windows(gaze, scene.sizes, None))

    return task


def _looking(one: Contender, prepared: object, looks: list[Look]) -> Task:
    return lambda unit: one.read(prepared, looks[unit % len(looks)])


def _errors(contenders: list[Contender], photos: Photos, side: int, count: int) -> dict[str, Error]:
    """Compare with the oracle: extractors on all windows, rivals on those inside the image."""
    oracle: PatchExtractor = create("patch_extractor", ORACLE)
    others = [one for one in contenders if one.name != ORACLE]
    squares: dict[str, list[Tensor]] = {one.name: [] for one in others}
    for first, look in enumerate(draw_looks(count, side, seed=1)):
        image = mosaic(photos, side, first)
        expected = oracle.prepare(image).read(look.windows)[0]
        for one in others:
            square = (one.read(one.prepare(image), look) - expected).double().square()
            squares[one.name].append((square if one.is_ours else square[look.inside]).flatten())
    joined = {name: torch.cat(found) for name, found in squares.items()}
    return {
        name: Error(float(one.mean().sqrt()), float(one.max().sqrt()))
        for name, one in joined.items()
    }


def _error_looks(most: int, side: int) -> int:
    """Take fewer where the oracle is slow: each look at a large image reads many more pixels."""
    return min(most, max(_FEWEST_LOOKS, int(most * (1792 / side) ** 2)))


def _growth(photos: Photos, settings: Settings, blocks: Callable[[], Tensor]) -> Samples:
    """Time 30 and 256 windows at all image sizes in the same rounds, and the blocks they feed."""
    extractor: PatchExtractor = create("patch_extractor", INTEGRAL)
    contexts: list[ContextBuilder] = [create("context_builder", name) for name in _CONTEXTS]
    tasks: dict[str, Task] = {BLOCKS: lambda _: blocks()}
    for side in settings.sides:
        scene = extractor.prepare(mosaic(photos, side))
        looks = draw_looks(_GAZES, side, seed=0)
        for context in contexts:
            tasks[growth_key(context.num_windows, side)] = _glimpsing(scene, context, looks)
    return interleave(tasks, settings.effort, between=blocks)
