"""Numbers for ``auto``, by the size of the data set, of the batch and of the training. Torch-free.

The paper's numbers are for 1.3 million images, batches of 1024 and 375,000 steps. The rules below
give the same there and follow their reasons to smaller ones; docs/training.md tells both. An
objective of a plugin whose Config has the same keys gets the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from textwrap import fill
from typing import Any

from fovea.config import AUTO, to_tree, validate
from fovea.length import Length
from fovea.recipe import Recipe

IMAGES_PER_PROTOTYPE = 16
PROTOTYPES_PER_OUTPUT = 32
TEACHER_OUTPUTS = 2  # of an image: its global view and its sequence
FEWEST_PROTOTYPES, MOST_PROTOTYPES = 64, 65536

AVERAGED_SHARE = 1 / 30  # of the training
AVERAGED_IMAGES = 256_000
FEWEST_AVERAGED = 10  # steps

WARMUP_STEPS = 2000
WARMUP_SHARES = 1 / 30, 1 / 10  # of the training

LR, LR_BATCH, LR_END = 0.002, 1024, 1e-6

RISE_IMAGES, RISE_STEPS = 1_000_000, 100_000


@dataclass(frozen=True)
class Size:
    """What the numbers of a stage depend on; ``steps`` are those its schedules are made for."""

    images: int
    batch: int
    steps: int


@dataclass(frozen=True)
class Choice:
    """A number, or the keys of a schedule, that stands for an ``auto``."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Resolution:
    """A recipe with numbers for every ``auto``, and what was chosen for so many images."""

    recipe: Recipe
    images: int
    choices: tuple[Choice, ...]

    def __str__(self) -> str:
        """Write all choices and their reasons, as a run prints them."""
        lines = [f"auto, for {self.images:,} images:"]
        for one in self.choices:
            lines += [f"  {one.key} = {_flow(one.value)}", _indented(one.why)]
        return "\n".join(lines)


def resolve(recipe: Recipe, images: int) -> Resolution:
    """Put a number wherever a stage says ``auto``: a pure function of the recipe and the images.

    Args:
        recipe: of a run.
        images: number of images of the train split.

    Raises:
        ValueError: a batch is larger than the data set.
    """
    tree = to_tree(recipe)
    choices: list[Choice] = []
    for name in recipe.stages():
        stage = getattr(recipe, name)
        size = Size(images, stage.batch_size, Length.of(stage, images).scheduled)
        _fill(tree[name], name, size, choices)
    return Resolution(validate(Recipe, tree), images, tuple(choices))


def _fill(tree: dict[str, Any], where: str, size: Size, choices: list[Choice]) -> None:
    """Fill in a tree. An ``auto`` without a rule is a word of the component's own."""
    for name, value in tree.items():
        key = f"{where}.{name}"
        if isinstance(value, dict):
            _fill(value, key, size, choices)
        elif value == AUTO and (rule := _RULES.get(key, _RULES.get(name))):
            tree[name], why = rule(size)
            choices.append(Choice(key, tree[name], why))


def _prototypes(size: Size) -> tuple[int, str]:
    """Give each prototype some images to stand for, and each teacher output not too many.

    A target can tell no more than the batch can: ln of its teacher outputs. Further prototypes
    raise the entropy of targets and loss alike; the paper has 32 for each output, and so may we.
    """
    by_images = size.images // IMAGES_PER_PROTOTYPE
    by_batch = PROTOTYPES_PER_OUTPUT * TEACHER_OUTPUTS * size.batch
    most = min(by_images, by_batch, MOST_PROTOTYPES)
    if most < FEWEST_PROTOTYPES:
        return FEWEST_PROTOTYPES, "the fewest that auto gives"
    if most == by_images:
        why = f"the power of two that leaves each {IMAGES_PER_PROTOTYPE} images or more"
    elif most == by_batch:
        why = f"{PROTOTYPES_PER_OUTPUT} for each of the {most // PROTOTYPES_PER_OUTPUT:,} teacher "
        why += "outputs of a batch, the paper's ratio; a power of two"
    else:
        why = "the paper's"
    return 1 << (most.bit_length() - 1), why


def _momentum(size: Size) -> tuple[dict[str, float], str]:
    """Average over a share of the training, or over the paper's number of images if that is less.

    After three such windows, a tenth of the training, little is left of the random start.
    """
    by_length, by_images = AVERAGED_SHARE * size.steps, AVERAGED_IMAGES / size.batch
    steps = max(FEWEST_AVERAGED, min(by_length, by_images))
    why = f"the teacher averages {steps:,.0f} steps: "
    if steps == by_length:
        why += "a thirtieth of the training"
    elif steps == by_images:
        why += f"{AVERAGED_IMAGES:,} images, as the paper's"
    else:
        why += "the fewest that auto gives"
    return {"start": round(1 - 1 / steps, 8), "end": 1.0}, why


def _teacher_temperature(size: Size) -> tuple[dict[str, Any], str]:
    """Keep targets sharp; softer ones need a good teacher and made small runs collapse."""
    if size.images >= RISE_IMAGES and size.steps >= RISE_STEPS:
        return {"start": 0.04, "end": 0.07, "shape": "linear", "until": 0.1}, "the paper's"
    why = f"low throughout; it rises only from {RISE_IMAGES:,} images and {RISE_STEPS:,} steps on"
    return {"start": 0.04, "end": 0.04}, why


def _warmup(size: Size) -> tuple[float, str]:
    """Warm up until Adam's average of squares has settled: twice 1 / (1 - 0.999) steps."""
    low, high = WARMUP_SHARES
    wanted = WARMUP_STEPS / size.steps
    share = min(max(low, wanted), high)
    why = f"warm-up of {share * size.steps:,.0f} steps: "
    if wanted > high:
        why += f"a tenth of the training, in place of {WARMUP_STEPS:,} steps"
    else:
        why += "until Adam's averages settle" if wanted > low else "the paper's share"
    return round(share, 4), why


def _lr(size: Size) -> tuple[dict[str, float], str]:
    """Scale the paper's by the square root of the batch, as the noise of Adam's steps goes."""
    share, why = _warmup(size)
    start = float(f"{LR * sqrt(size.batch / LR_BATCH):.3g}")
    why = f"{LR} at a batch of {LR_BATCH}, times the square root of the batch's ratio; {why}"
    return {"start": start, "end": LR_END, "warmup": share}, why


_RULES: dict[str, Callable[[Size], tuple[Any, str]]] = {
    "pretrain.optimizer.lr": _lr,
    "pretrain.objective.head.prototypes": _prototypes,
    "pretrain.objective.momentum": _momentum,
    "pretrain.objective.teacher_temperature": _teacher_temperature,
    "warmup": _warmup,  # of any schedule
}


def _indented(text: str) -> str:
    return fill(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _flow(value: Any) -> str:
    """Write a value as it would stand in a config."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    return str(value)
