"""For each rule of data sets, one that breaks it, and is caught."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from testing.strangers import Settings, assert_caught, assert_passes

from fovea.config import Section
from fovea.decoding import BadImage
from fovea.interfaces import DataSet, Sample
from fovea.testing import data_set as rules
from fovea.testing.rules import Rule
from fovea.testing.settings import RULES as SETTINGS


class Plain(DataSet):
    """Seven noisy images, each smaller where that is enough; one of them is bad."""

    Config = Settings
    classes = ("dark", "bright")

    def __init__(self, config: Section, *, split: str, channels: int):
        self.channels, self.side = channels, 48

    def __len__(self) -> int:
        return 7

    def name(self, index: int) -> str:
        return f"noise {index}"

    def sample(self, index: int, epoch: int) -> Sample:
        if index == 3:
            raise BadImage("it is bad")
        noise = np.random.default_rng([index, epoch])
        shape = (self.side, 60, self.channels)
        image = noise.integers(0, 256, shape, dtype=np.uint8)
        return Sample(image, index % 2, (0.0, 0.25, 0.5, 1.0))

    def reduced(self, shorter_side: int) -> "Plain":
        other = type(self)(Settings(), split="train", channels=self.channels)
        other.side = max(1, min(48, shorter_side))
        return other


def made(**changes: Any) -> type:
    """Make a subclass of the plain data set with other methods."""
    return type("Altered", (Plain,), {"__module__": __name__, **changes})


def giving(**fields: Any) -> type:
    """Make a data set of how fields of its samples come about."""

    def sample(self: Plain, index: int, epoch: int) -> Sample:
        plain = Plain.sample(self, index, epoch)
        return replace(plain, **{name: make(self, plain) for name, make in fields.items()})

    return made(sample=sample)


def refuse(self: Plain, index: int, epoch: int) -> Sample:
    raise BadImage("all of them are bad")


def less(self: Plain, shorter_side: int) -> Plain:
    return Plain.reduced(self, shorter_side - 1)


def renamed(self: Plain, shorter_side: int) -> Plain:
    other = Plain.reduced(self, shorter_side)
    other.name = "reduced {}".format  # type: ignore[method-assign]
    return other


class Counting(Plain):
    """Gives another image each time."""

    count = 0

    def sample(self, index: int, epoch: int) -> Sample:
        self.count += 1
        return super().sample(index, epoch + (0 if index == 3 else self.count))


class Closed(Plain):
    """Holds a file open, which no other process can take over."""

    def __init__(self, config: Section, *, split: str, channels: int):
        super().__init__(config, split=split, channels=channels)
        self.opened = (one for one in ())


class Emptied(Plain):
    """Forgets its images where it is unpickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "side": self.side // 2}


BROKEN: list[tuple[type, Rule]] = [
    (made(__len__=lambda self: 0), rules.has_images),
    (made(classes=["dark", "bright"]), rules.names_its_classes),
    (made(classes=("dark", "dark")), rules.names_its_classes),
    (made(name=lambda self, index: f"noise\n{index}"), rules.names_its_images),
    (giving(image=lambda self, one: one.image.astype(float)), rules.gives_images),
    (giving(image=lambda self, one: one.image[..., :1]), rules.gives_images),
    (giving(image=lambda self, one: one.image.tolist()), rules.gives_images),
    (made(sample=refuse), rules.gives_images),
    (giving(label=lambda self, one: 2), rules.gives_labels),
    (giving(label=lambda self, one: None), rules.gives_labels),
    (giving(box=lambda self, one: (0.0, 0.0, 60.0, 48.0)), rules.gives_boxes),
    (giving(label=lambda self, one: random.randrange(2)), rules.reads_purely),
    (Counting, rules.reads_purely),
    (Closed, rules.can_be_pickled),
    (Emptied, rules.can_be_pickled),
    (made(reduced=less), rules.reduces_without_loss),
    (made(reduced=renamed), rules.reduces_without_loss),
]


def test_a_plain_one_passes() -> None:
    assert_passes("data_set", Plain)
    assert_passes("data_set", Plain, split="val", channels=1)


def test_one_of_files_that_an_extractor_opens_passes() -> None:
    assert_passes("data_set", giving(image=lambda self, one: Path("slide.svs")))


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("data_set", target, rule)


def test_every_rule_has_one_that_breaks_it() -> None:
    assert {rule for _, rule in BROKEN} | set(SETTINGS) == set(rules.RULES)
