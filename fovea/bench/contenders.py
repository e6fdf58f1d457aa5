"""Who takes part: each prepares an image once, then reads the patches of any glimpse from it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from torch import Tensor

from fovea import create, registry
from fovea.bench.looks import Look
from fovea.bench.names import INTEGRAL, NEAREST
from fovea.images import Array
from fovea.interfaces import PatchExtractor

PATCH = 16


@dataclass(frozen=True, eq=False)
class Contender:
    """One way from an image to patches.

    Attributes:
        name: what tables call it.
        preparation: what is made of an image beforehand; contenders of one word can share it.
        prepare: makes it.
        read: reads the patches of a glimpse from it -> float32 [N, 3, P, P] in 0..1.
        is_ours: whether it is an extractor, and so knows windows that leave the image.
    """

    name: str
    preparation: str
    prepare: Callable[[Array], Any]
    read: Callable[[Any, Look], Tensor]
    is_ours: bool = False


def extractors(missing: dict[str, str]) -> list[Contender]:
    """List our extractors, ``integral`` in both modes and with each reader.

    What cannot be had here goes to ``missing``, with the reason.
    """
    modes = {INTEGRAL: {}, NEAREST: {"mode": "nearest"}}
    found = [_Entry(label, "integral", "integral", reading=mode) for label, mode in modes.items()]
    found += [
        _Entry(f"{label}, {one} reader", "integral", "integral", reading={"reader": one, **mode})
        for one in _choices("reader")
        for label, mode in modes.items()
    ]
    others = [name for name in registry.names("patch_extractor") if name != "integral"]
    found += [_Entry(name, name, name) for name in others]
    return list(_available(found, missing))


def tables(missing: dict[str, str]) -> list[Contender]:
    """List ``integral`` with each way to build its table."""
    labels = {f"integral, {table} table": table for table in _choices("table")}
    found = [
        _Entry(label, label, "integral", building={"table": one}) for label, one in labels.items()
    ]
    return list(_available(found, missing))


@dataclass(frozen=True)
class _Entry:
    """A contender to be: an extractor, and its settings for building a scene and for reading it."""

    label: str
    preparation: str
    extractor: str
    building: Mapping[str, str] = field(default_factory=dict)
    reading: Mapping[str, str] = field(default_factory=dict)


def _choices(field: str) -> list[str]:
    """List what a setting of ``integral`` may be, besides ``auto``."""
    info = registry.config_class("patch_extractor", "integral").model_fields[field]
    return [one for one in get_args(info.annotation) if one != "auto"]


def _available(found: list[_Entry], missing: dict[str, str]) -> Iterator[Contender]:
    probe = np.zeros((PATCH, PATCH, 3), np.uint8)
    for one in found:
        try:
            settings = {**one.building, **one.reading}
            create("patch_extractor", one.extractor, patch_size=PATCH, **settings).prepare(probe)
        except ValueError as error:  # a ConfigError is one
            missing[one.label] = str(error)
        else:
            yield _contender(one)


def _contender(one: _Entry) -> Contender:
    extractor: PatchExtractor = create(
        "patch_extractor", one.extractor, patch_size=PATCH, **one.building
    )

    def read(scene: Any, look: Look) -> Tensor:
        if one.reading:
            scene = replace(scene, **one.reading)  # the same table
        patches: Tensor = scene.read(look.windows)
        return patches[0]

    return Contender(one.label, one.preparation, extractor.prepare, read, True)
