"""Goals on a GPU, as data; each is judged by what a run measured."""

from collections.abc import Callable
from statistics import median

from fovea.bench.limits import TRAINING, Limit, NotMeasured
from fovea.bench.names import (
    BUILD,
    COMPILED_GLIMPSES,
    COMPILED_PLAIN,
    COPY,
    DINO,
    GLIMPSES,
    OURS,
    PLAIN,
    READ,
)
from fovea.bench.results import GpuExtraction, GpuInference, GpuPoint, Training, at_side
from fovea.bench.timing import ratio

_SMALLEST = 448  # pixels a side, from which on a glimpse is to be ahead


def _share_of_copy(role: str) -> Callable[[GpuExtraction], float]:
    return lambda run: ratio(run.groups[role].seconds, COPY, BUILD)


def _milliseconds(role: str, task: str) -> Callable[[GpuExtraction], float]:
    return lambda run: 1000 * median(run.groups[role].seconds[task])


EXTRACTION_CUDA: tuple[Limit[GpuExtraction], ...] = (
    Limit("tables / copy bandwidth, 1024 x 448 px", ">=", 0.5, _share_of_copy("many")),
    Limit("tables / copy bandwidth, 1024 mixed sizes", ">=", 0.5, _share_of_copy("mixed")),
    Limit("table of one image of 7168 px, ms", "<=", 3, _milliseconds("large", BUILD)),
    Limit(
        "grid_sample / exact reading, 1024 images",
        ">=",
        1,
        lambda run: ratio(run.groups["many"].seconds, "grid_sample", READ),
    ),
    Limit("exact reading of one image, ms", "<=", 0.15, _milliseconds("one", READ)),
)


def _point(run: GpuInference, batch: int) -> GpuPoint:
    for point in run.points:
        if (point.batch, point.precision) == (batch, "bfloat16"):
            return point
    raise NotMeasured(f"no batch of {batch} in bfloat16")


def _glimpses(run: GpuInference) -> float:
    """Return the milliseconds of 8 glimpses at one image; the slowest size counts."""
    point = _point(run, 1)
    return 1000 * max(median(point.seconds[_ours(point, side)]) for side in run.sides)


def _beside_plain(batch: int) -> Callable[[GpuInference], float]:
    """Compare the plain ViT with 8 glimpses, each as it is faster; the lowest ratio counts."""

    def number(run: GpuInference) -> float:
        point = _point(run, batch)
        ratios = [
            ratio(point.seconds, _plain(point, side), _ours(point, side))
            for side in run.sides
            if side >= _SMALLEST and at_side(PLAIN, side) in point.seconds
        ]
        if not ratios:
            raise NotMeasured(f"no image of {_SMALLEST} px or more")
        return min(ratios)

    return number


def _ours(point: GpuPoint, side: int) -> str:
    return point.fastest(*(at_side(name, side) for name in (GLIMPSES, COMPILED_GLIMPSES)))


def _plain(point: GpuPoint, side: int) -> str:
    return point.fastest(*(at_side(name, side) for name in (PLAIN, COMPILED_PLAIN)))


INFERENCE_CUDA: tuple[Limit[GpuInference], ...] = (
    Limit("8 glimpses of a ViT-S, 1 image, bfloat16, ms", "<=", 3, _glimpses),
    *(
        Limit(f"plain ViT-S / 8 glimpses, batch {batch}, from 448 px", ">=", 1, number)
        for batch, number in ((1, _beside_plain(1)), (32, _beside_plain(32)))
    ),
)


def _beside_dino(run: Training) -> float:
    if DINO not in run.steps:
        raise NotMeasured(run.missing.get(DINO, "there is no DINO"))
    return run.at_equal_flops(run.steps, OURS)


def _utilisation(run: Training) -> float:
    if OURS not in run.steps:
        raise NotMeasured(run.missing.get(OURS, "there is no step"))
    return run.utilisation(OURS)


STEPS_CUDA: tuple[Limit[Training], ...] = (
    Limit("FLOP/s of our step / matrix product", ">=", 0.4, _utilisation),
    Limit("step: img/s x FLOPs, ours / DINO", ">=", 1.2, _beside_dino),
)

TRAINING_CUDA: tuple[Limit[Training], ...] = (*TRAINING, *STEPS_CUDA)
