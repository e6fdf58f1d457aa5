"""Class numbers from whatever a data set has for labels: numbers or names."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from timm.utils.misc import natural_key

Label = int | str | None
"""The number or the name of a class, or None where it is unknown."""

MOST_CLASSES = 2**20


def class_names(labels: Iterable[Label], where: str) -> tuple[str, ...]:
    """Name the classes of a training split, in the order of their numbers; () without labels.

    Numbers count from 0 to the largest there is, and are their own names. Names are numbered in
    natural order, 2 before 10, as class folders are.

    Args:
        labels: in any order.
        where: the setting to blame, such as ``data.train``.

    Raises:
        ValueError: there are numbers beside names, or numbers that are too large for a class.
    """
    found = set(labels)
    names = natural(label for label in found if isinstance(label, str))
    numbers = sorted(label for label in found if isinstance(label, int))
    if names and numbers:
        raise ValueError(
            f"{where}: labels are numbers such as {numbers[0]} and names such as {names[0]!r}; "
            "expected one or the other"
        )
    if numbers and not 0 <= numbers[0] <= numbers[-1] < MOST_CLASSES:
        raise ValueError(
            f"{where}: labels run from {numbers[0]} to {numbers[-1]}; expected 0 to "
            f"{MOST_CLASSES - 1:,}"
        )
    return tuple(names or [str(number) for number in range(max(numbers, default=-1) + 1)])


def class_numbers(
    labels: Iterable[Label], classes: tuple[str, ...], where: str
) -> NDArray[np.int64]:
    """Number labels by the classes of the training split: -> int64 [n], -1 where unknown.

    Raises:
        ValueError: a label is none of them.
    """
    numbers: dict[Label, int] = {name: number for number, name in enumerate(classes)}
    numbers |= {number: number for number in range(len(classes))}
    numbers[None] = -1
    try:
        return np.array([numbers[label] for label in labels], np.int64)
    except KeyError as error:
        raise ValueError(f"{where}: {error.args[0]} is no class of the train split") from None


def natural(names: Iterable[str]) -> list[str]:
    """Sort names as people do, 2 before 10; those that differ in case alone, always alike."""
    return sorted(sorted(names), key=natural_key)
