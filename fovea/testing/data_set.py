"""The contract of data sets."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fovea.decoding import BadImage
from fovea.images import Source
from fovea.interfaces import DataSet, Sample
from fovea.testing import inputs
from fovea.testing.randomness import drawn_from
from fovea.testing.rules import Rule, Subject, check, expect
from fovea.testing.settings import RULES as SETTINGS

_MOST = 5


@dataclass(frozen=True)
class Images(Subject):
    """A data set under test."""

    kind: ClassVar[str] = "data_set"
    sizes: ClassVar[dict[str, Any]] = {"split": "train", "channels": inputs.CHANNELS}

    def read(self, data: DataSet, epoch: int = 0) -> Iterator[tuple[int, Sample]]:
        """Read up to five images, from the first to the last; bad ones are passed over."""
        chosen = sorted(set(np.linspace(0, len(data) - 1, _MOST).round().astype(int).tolist()))
        bad = []
        for index in chosen:
            try:
                yield index, data.sample(index, epoch)
            except BadImage as error:
                bad.append(str(error))
        expect(len(bad) < len(chosen), f"no image could be read: {'; '.join(bad[:1])}")


def check_data_set(name: str, /, *, split: str = "train", **settings: Any) -> None:
    """Check a registered data set against its contract; of a large one it reads a few images.

    Args:
        name: the registered one.
        split: ``train``, ``val`` or ``test``.
        **settings: of its Config; also ``channels``, by default 3.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    check(Images(name, {**settings, "split": split}), RULES)


def has_images(images: Images) -> None:
    """It has at least one image."""
    count = len(images.build())
    expect(count > 0, f"it has {count}")


def names_its_classes(images: Images) -> None:
    """`classes` is a tuple of different names, empty where there are no labels."""
    classes = images.build().classes
    is_names = isinstance(classes, tuple) and all(isinstance(one, str) for one in classes)
    expect(is_names, f"it is {classes!r}")
    expect(len(set(classes)) == len(classes), "a name comes twice")


def names_its_images(images: Images) -> None:
    """name() gives a text of one line."""
    data = images.build()
    for index in range(min(len(data), _MOST)):
        name = data.name(index)
        is_line = isinstance(name, str) and len(name.splitlines()) == 1
        expect(is_line, f"that of image {index} is {name!r}")


def gives_images(images: Images) -> None:
    """An image is uint8 [H, W, C], as many channels as asked for; or a path or a `Source`."""
    C = images.given.get("channels", inputs.CHANNELS)
    for index, sample in images.read(images.build()):
        image = sample.image
        if isinstance(image, str | Path | Source):
            continue
        expect(isinstance(image, np.ndarray), f"image {index} is a {type(image).__name__}")
        expect(image.dtype == np.uint8, f"image {index} is {image.dtype}")
        fits = image.ndim == 3 and image.shape[2] == C and image.size > 0
        expect(fits, f"image {index} is {list(image.shape)}, and C is {C}")


def gives_labels(images: Images) -> None:
    """A label is the number of a class, an int, or -1 where it is unknown."""
    data = images.build()
    for index, sample in images.read(data):
        label = sample.label
        known = isinstance(label, int) and -1 <= label < len(data.classes)
        expect(known, f"that of image {index} is {label!r}, of {len(data.classes)} classes")


def gives_boxes(images: Images) -> None:
    """A box is (x0, y0, x1, y1) in 0..1, the upper left corner first, or None."""
    for index, sample in images.read(images.build()):
        if sample.box is not None:
            x0, y0, x1, y1 = sample.box
            ordered = 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
            expect(ordered, f"that of image {index} is {sample.box}")


def reads_purely(images: Images) -> None:
    """A sample is a pure function of index and epoch, and no global generator is drawn from."""
    data, other = images.build(), images.build()
    for epoch in (1, 0):
        for index, first in images.read(data, epoch):
            drawn = drawn_from(partial(data.sample, index, epoch))
            expect(not drawn, f"it draws from that of {', '.join(drawn)}")
            for one in (data, other):
                _expect_same(one.sample(index, epoch), first, f"image {index}, read again,")


def can_be_pickled(images: Images) -> None:
    """A pickled copy, as worker processes get, reads the same images."""
    data = images.build()
    for one in (data, data.reduced(8)):
        copy = pickle.loads(pickle.dumps(one))
        expect(len(copy) == len(one), f"it has {len(copy)} images, not {len(one)}")
        for index, sample in images.read(one):
            _expect_same(copy.sample(index, 0), sample, f"image {index} of the copy")


def reduces_without_loss(images: Images) -> None:
    """reduced() has the same images, classes, names and labels, with the pixels asked for."""
    data = images.build()
    for side in (8, 40):
        reduced = data.reduced(side)
        expect(len(reduced) == len(data), f"it has {len(reduced)} images, not {len(data)}")
        expect(reduced.classes == data.classes, f"it has the classes {reduced.classes}")
        for index, full in images.read(data):
            small = reduced.sample(index, 0)
            expect(reduced.name(index) == data.name(index), f"image {index} has another name")
            expect(small.label == full.label, f"image {index} has another label")
            if isinstance(full.image, np.ndarray) and isinstance(small.image, np.ndarray):
                shorter, whole = (min(one.shape[:2]) for one in (small.image, full.image))
                seen = f"image {index}, of {whole} pixels, has {shorter} where {side} are needed"
                expect(shorter >= min(side, whole), seen)


def _expect_same(found: Sample, wanted: Sample, what: str) -> None:
    is_same = np.array_equal(_identity(found), _identity(wanted))
    expect(is_same, f"{what} is another")
    expect((found.label, found.box) == (wanted.label, wanted.box), f"{what} has another label")


def _identity(sample: Sample) -> Any:
    """Return the pixels of a sample, or what names the file that they are still in."""
    return sample.image.name if isinstance(sample.image, Source) else sample.image


RULES: tuple[Rule[Images], ...] = (
    *SETTINGS,
    has_images,
    names_its_classes,
    names_its_images,
    gives_images,
    gives_labels,
    gives_boxes,
    reads_purely,
    can_be_pickled,
    reduces_without_loss,
)
