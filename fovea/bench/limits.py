"""Limits to hold, as data; each is judged by what a run measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from fovea.bench.names import (
    BARE,
    BLOCKS,
    CV2_AREA,
    CV2_TABLE,
    DATA,
    DECODE,
    DINO,
    GLIMPSES,
    INTEGRAL,
    NAIVE,
    NEAREST,
    OURS,
    OURS_READY,
    PIL_BOX,
    PLAIN,
    TORCH_TABLE,
)
from fovea.bench.results import Extraction, Inference, Side, Training, growth_key
from fovea.bench.timing import Samples, ratio

R = TypeVar("R")
_ANY = 10**9


class NotMeasured(Exception):  # noqa: N818 - it names what happened
    """Says why a limit has no measured value."""


@dataclass(frozen=True)
class Limit(Generic[R]):
    """A bound on a number that a run measures."""

    name: str
    sign: Literal["<=", ">="]
    value: float
    measure: Callable[[R], float]


@dataclass(frozen=True)
class Verdict:
    """A limit and what was measured.

    Attributes:
        measured: the number, or None.
        reason: why there is none.
    """

    name: str
    sign: str
    value: float
    measured: float | None
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Say whether the limit holds; one that was not measured does not."""
        if self.measured is None:
            return False
        return self.measured <= self.value if self.sign == "<=" else self.measured >= self.value


def judge(limits: Sequence[Limit[R]], results: R) -> list[Verdict]:
    """Hold results against limits, one verdict each."""
    verdicts = []
    for limit in limits:
        try:
            measured, reason = limit.measure(results), ""
        except NotMeasured as error:
            measured, reason = None, str(error)
        verdicts.append(Verdict(limit.name, limit.sign, limit.value, measured, reason))
    return verdicts


_Number = Callable[[Extraction], float]


def _build(of: str, to: str, low: int, high: int = _ANY, lowest: bool = False) -> _Number:
    """Compare two builds at the sizes from low to high; the highest ratio counts, or the lowest."""

    def number(run: Extraction) -> float:
        sides = _sides(run, low, high)
        _check(run, sides[0].builds, of, to)
        ratios = [ratio(side.builds, of, to) for side in sides]
        return min(ratios) if lowest else max(ratios)

    return number


def _rival(name: str, size: int) -> _Number:
    """Compare a rival's glimpse with ours."""

    def number(run: Extraction) -> float:
        side = _sides(run, size, size)[0]
        _check(run, side.glimpses, name)
        return ratio(side.glimpses, name, INTEGRAL)

    return number


def _growth(windows: int, large: int) -> _Number:
    def number(run: Extraction) -> float:
        for size in (448, large):
            _sides(run, size, size)
        return ratio(run.growth, growth_key(windows, large), growth_key(windows, 448))

    return number


def _beside_nearest(run: Extraction) -> float:
    return max(ratio(side.glimpses, INTEGRAL, NEAREST) for side in run.sides)


def _beside_blocks(run: Extraction) -> float:
    return max(ratio(run.growth, growth_key(30, side.side), BLOCKS) for side in run.sides)


def _largest_error(run: Extraction) -> float:
    return max(side.errors[INTEGRAL].largest for side in run.sides)


def _beside_exact(run: Extraction) -> float:
    """Compare 8 glimpses of each exact alternative with ours, builds included; the worst counts."""
    ratios = [
        _sequence(run.costs(name, side)) / _sequence(run.costs(INTEGRAL, side))
        for side in _sides(run, 448)
        for name in run.exact_rivals(side)
    ]
    if not ratios:
        raise NotMeasured("no rival was exact to a grey level")
    return min(ratios)


def _sequence(costs: tuple[float, float]) -> float:
    build, glimpse = costs
    return build + 8 * glimpse


def _sides(run: Extraction, low: int, high: int = _ANY) -> list[Side]:
    found = [side for side in run.sides if low <= side.side <= high]
    if not found:
        raise NotMeasured(f"no image of {low} px" + (" or more" if high == _ANY else ""))
    return found


def _check(run: Extraction, samples: Samples, *names: str) -> None:
    for name in names:
        if name not in samples:
            raise NotMeasured(run.missing.get(name, f"there is no '{name}'"))


def _glimpses(of: str, to: str, low: int, high: int = _ANY) -> Callable[[Inference], float]:
    """Compare two tasks at all batch sizes; the highest ratio counts."""

    def number(run: Inference) -> float:
        points = [one for one in run.points if low <= one.side <= high]
        ratios = [ratio(one.seconds, of, to) for one in points if to in one.seconds]
        if not ratios:
            raise NotMeasured(f"no image of {low} px" + (" or more" if high == _ANY else ""))
        return max(ratios)

    return number


EXTRACTION: tuple[Limit[Extraction], ...] = (
    Limit("numpy + torch build / decode, 448 px", "<=", 2.0, _build(TORCH_TABLE, DECODE, 448, 448)),
    Limit(
        "numpy + torch build / decode, from 1792 px", "<=", 1.6, _build(TORCH_TABLE, DECODE, 1792)
    ),
    Limit("cv2 build / decode, from 448 px", "<=", 0.4, _build(CV2_TABLE, DECODE, 448)),
    Limit(
        "naive cumsum / numpy + torch build, from 1792 px",
        ">=",
        8,
        _build(NAIVE, TORCH_TABLE, 1792, lowest=True),
    ),
    *(
        Limit(f"{name} / glimpse, {side} px", ">=", value, _rival(name, side))
        for name, values in ((CV2_AREA, (1, 5, 15)), (PIL_BOX, (1.7, 8, 20)))
        for side, value in zip((448, 1792, 3584), values, strict=True)
    ),
    *(
        Limit(f"glimpse at {side} / at 448 px, {n} windows", "<=", value, _growth(n, side))
        for n, value in ((30, 2), (256, 3))
        for side in (3584, 7168)
    ),
    Limit("exact / nearest glimpse, all sizes", "<=", 4, _beside_nearest),
    Limit("glimpse / ViT-S blocks on its tokens, all sizes", "<=", 0.05, _beside_blocks),
    Limit("largest error of integral, in 0..1", "<=", 1e-5, _largest_error),
    Limit("exact rivals / ours, build and 8 glimpses, from 448 px", ">=", 1, _beside_exact),
)

INFERENCE: tuple[Limit[Inference], ...] = (
    Limit("8 glimpses / bare blocks, all sizes", "<=", 1.2, _glimpses(GLIMPSES, BARE, 0)),
    Limit("8 glimpses / plain ViT-S, from 448 px", "<=", 1, _glimpses(GLIMPSES, PLAIN, 448)),
)

TRAINING: tuple[Limit[Training], ...] = (
    Limit(
        "step, views ready: img/s x FLOPs, ours / DINO",
        ">=",
        1,
        lambda run: run.at_equal_flops(run.steps, OURS_READY),
    ),
    Limit(
        "from JPEG files: img/s x FLOPs, ours / DINO, all sizes",
        ">=",
        1.3,
        lambda run: min(run.at_equal_flops(one.seconds, OURS) for one in run.files),
    ),
    Limit(
        "waiting for data / our step, all sizes of files",
        "<=",
        0.05,
        lambda run: max(one.share(OURS, DATA) for one in run.files),
    ),
    Limit(
        "time in no named part / step, ours and DINO, all sizes",
        "<=",
        0.02,
        lambda run: max(one.unnamed(name) for one in run.files for name in (OURS, DINO)),
    ),
)
