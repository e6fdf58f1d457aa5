"""What the benchmarks measure, and what follows from it by arithmetic."""

from dataclasses import dataclass
from math import ceil, floor
from statistics import median

from fovea.bench.names import DINO, MATMUL, OTHER, OURS, OURS_LARGE
from fovea.bench.timing import Samples, ratio

EXACT_ENOUGH = 1 / 255
"""Root mean square error below which an alternative counts as exact: one grey level."""


@dataclass(frozen=True)
class Error:
    """How far patches are from the area average, in 0..1: root mean square, and the largest."""

    rms: float
    largest: float


@dataclass(frozen=True)
class Side:
    """What was measured at one image size.

    Attributes:
        side: of the image, in pixels.
        builds: seconds per image of each preparation, of the decoder, and of the naive way.
        glimpses: seconds per glimpse of each contender.
        errors: of each contender but the oracle.
    """

    side: int
    builds: Samples
    glimpses: Samples
    errors: dict[str, Error]


@dataclass(frozen=True)
class Extraction:
    """All that the benchmark of extraction measured.

    Attributes:
        sides: by image size, in ascending order.
        growth: seconds per glimpse by ``growth_key``, all sizes taking turns, and seconds of the
            transformer blocks that a glimpse feeds.
        extractors: names of the contenders that are ours, the headline first.
        rivals: names of the others.
        preparations: what each contender needs; ``none`` costs nothing.
        chosen: what ``integral`` is made of here.
        missing: what could not be measured, and why.
        photos: names of the photographs.
    """

    sides: tuple[Side, ...]
    growth: Samples
    extractors: tuple[str, ...]
    rivals: tuple[str, ...]
    preparations: dict[str, str]
    chosen: str
    missing: dict[str, str]
    photos: tuple[str, ...]

    def costs(self, name: str, side: Side) -> tuple[float, float]:
        """Return the seconds that a contender takes to prepare an image, and for a glimpse."""
        preparation = self.preparations[name]
        build = median(side.builds[preparation]) if preparation != "none" else 0.0
        return build, median(side.glimpses[name])

    def exact_rivals(self, side: Side) -> list[str]:
        """List the rivals that count as exact at a size."""
        return [name for name in self.rivals if side.errors[name].rms < EXACT_ENOUGH]


@dataclass(frozen=True)
class Point:
    """What was measured with one batch size at one image size.

    Attributes:
        batch: images at a time.
        side: of the images, in pixels.
        seconds: wall time of each task for the whole batch.
        skipped: why the plain ViT was not measured, or empty.
    """

    batch: int
    side: int
    seconds: Samples
    skipped: str


@dataclass(frozen=True)
class Inference:
    """All that the benchmark of inference measured.

    Attributes:
        points: by batch size, then by image size.
        glimpses_flops: of 8 glimpses at one image, whatever its size.
        plain_flops: of the plain ViT at one image, by its side.
        threads: that torch used.
        photos: names of the photographs.
    """

    points: tuple[Point, ...]
    glimpses_flops: int
    plain_flops: dict[int, int]
    threads: int
    photos: tuple[str, ...]


@dataclass(frozen=True)
class GpuImages:
    """What was measured with some images on a GPU.

    Attributes:
        label: what tables call them.
        sizes: (height, width) of each.
        seconds: of each task for all of them.
    """

    label: str
    sizes: tuple[tuple[int, int], ...]
    seconds: Samples


@dataclass(frozen=True)
class GpuExtraction:
    """All that the benchmark of extraction measured on a GPU.

    Attributes:
        device: its name.
        chosen: what ``integral`` is made of there.
        groups: by their part in the limits: many, mixed, one, large.
        photos: names of the photographs.
    """

    device: str
    chosen: str
    groups: dict[str, GpuImages]
    photos: tuple[str, ...]


@dataclass(frozen=True)
class GpuPoint:
    """What was measured with one batch in one precision on a GPU.

    Attributes:
        batch: images at a time.
        precision: of the networks, ``float32`` or ``bfloat16``.
        seconds: of each task for the whole batch; those of an image size by ``at_side``.
    """

    batch: int
    precision: str
    seconds: Samples

    def fastest(self, *names: str) -> str:
        """Name the fastest of some tasks; those that were not measured are passed over."""
        return min(
            (name for name in names if name in self.seconds),
            key=lambda name: median(self.seconds[name]),
        )


@dataclass(frozen=True)
class GpuInference:
    """All that the benchmark of inference measured on a GPU.

    Attributes:
        device: its name.
        sides: of the images, in pixels.
        points: by batch, then by precision.
        missing: what could not be measured, and why.
        photos: names of the photographs.
    """

    device: str
    sides: tuple[int, ...]
    points: tuple[GpuPoint, ...]
    missing: dict[str, str]
    photos: tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """What was measured with files of one size.

    Attributes:
        side: of the photographs, in pixels.
        seconds: of a step.
        splits: seconds of each part of it, a dict for each round.
    """

    side: int
    seconds: Samples
    splits: dict[str, list[dict[str, float]]]

    def share(self, name: str, part: str) -> float:
        """Return the share of a part in the time of a step, the median of rounds."""
        rounds = zip(self.splits[name], self.seconds[name], strict=True)
        return median(parts.get(part, 0.0) / whole for parts, whole in rounds)

    def unnamed(self, name: str) -> float:
        """Return the share of a step that is in no part, the median of rounds."""
        rounds = zip(self.splits[name], self.seconds[name], strict=True)
        return median(abs(1 - (sum(s.values()) - s[OTHER]) / whole) for s, whole in rounds)


@dataclass(frozen=True)
class Training:
    """All that the benchmark of training measured.

    Attributes:
        device: name of the GPU, or cpu.
        recipe: what was trained, in words.
        batch: images a step.
        large_batch: images a step of the recipe's own batch.
        workers: processes that read data.
        threads: that torch used, on a CPU.
        precision: of the networks.
        flops: of an image in a step, ours and DINO's.
        matmul_flops: of the matrix product that shows the machine's peak.
        steps: seconds of a step from decoded images, or from views that are ready.
        files: steps over files, by their size.
        pipeline: seconds of an image before any network, on one thread.
        memory: bytes that a step needs at its peak.
        missing: what could not be measured, and why.
        photos: names of the photographs.
    """

    device: str
    recipe: str
    batch: int
    large_batch: int
    workers: int
    threads: int
    precision: str
    flops: dict[str, int]
    matmul_flops: int
    steps: Samples
    files: tuple[Files, ...]
    pipeline: Samples
    memory: dict[str, int]
    missing: dict[str, str]
    photos: tuple[str, ...]

    def at_equal_flops(self, samples: Samples, name: str) -> float:
        """Compare ours with DINO: images a second times FLOPs of an image."""
        images = self.images_of(name) / self.batch
        return images * ratio(samples, DINO, name) * self.flops[OURS] / self.flops[DINO]

    def flops_of(self, name: str) -> int:
        """Return the FLOPs of an image in a step; whatever is changed in ours, they are ours."""
        return self.flops[DINO if name == DINO else OURS]

    def images_of(self, name: str) -> int:
        """Return the images of a step."""
        return self.large_batch if name == OURS_LARGE else self.batch

    def utilisation(self, name: str) -> float:
        """Return the FLOP/s of a step, as a share of those of a matrix product."""
        work = self.flops_of(name) * self.images_of(name) / self.matmul_flops
        return work * ratio(self.steps, MATMUL, name)


def growth_key(windows: int, side: int) -> str:
    """Name the task that reads so many windows from an image of that side."""
    return f"{windows} windows at {side} px"


def at_side(name: str, side: int) -> str:
    """Name a task for images of a side."""
    return f"{name}, {side} px"


def bytes_moved(height: int, width: int) -> int:
    """Count what an ideal build moves: the image read, its int32 table written."""
    return 3 * height * width + 12 * (height + 1) * (width + 1)


def break_even(ours: tuple[float, float], theirs: tuple[float, float]) -> str:
    """Say from which glimpse at an image on we are ahead, given (build, glimpse) costs of both."""
    extra, gain = ours[0] - theirs[0], theirs[1] - ours[1]
    if gain > 0:
        return str(max(1, floor(extra / gain) + 1))
    if extra < gain < 0:  # a cheaper build, dearer glimpses
        return f"only to {ceil(extra / gain) - 1}"
    return "never"
