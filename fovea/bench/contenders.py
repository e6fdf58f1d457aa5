"""Who takes part: each prepares an image once, then reads the patches of any glimpse from it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
from torch import Tensor

from fovea import create, registry
from fovea.bench.looks import Look, draw_looks
from fovea.bench.names import INTEGRAL, NEAREST
from fovea.images import Array
from fovea.interfaces import PatchExtractor, Scene

PATCH = 16


Reader = Callable[[Look], Tensor]
"""Reads the patches of a glimpse -> float32 [N, 3, P, P] in 0..1."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One way from an image to patches.

    Attributes:
        name: what tables call it.
        preparation: what is made of an image beforehand; the same word, the same work.
        prepare: makes it.
        is_ours: whether it is an extractor, and so knows windows that leave the image.
    """

    name: str
    preparation: str
    prepare: Callable[[Array], Reader]
    is_ours: bool = False


def extractors(missing: dict[str, str]) -> list[Contender]:
    """List our extractors, ``integral`` in both modes and with each reader.

    What cannot be had here goes to ``missing``, with the reason.
    """
    modes = {INTEGRAL: {}, NEAREST: {"mode": "nearest"}}
    found = [_Entry(label, "integral", "integral", mode) for label, mode in modes.items()]
    found += [
        _Entry(f"{label}, {one} reader", "integral", "integral", {"reader": one, **mode})
        for one in _choices("reader")
        for label, mode in modes.items()
    ]
    others = [name for name in registry.names("patch_extractor") if name != "integral"]
    found += [_Entry(name, name, name, {}) for name in others]
    return list(_available(found, missing))


def tables(missing: dict[str, str]) -> list[Contender]:
    """List ``integral`` with each way to build its table."""
    labels = {f"integral, {table} table": table for table in _choices("table")}
    found = [_Entry(label, label, "integral", {"table": one}) for label, one in labels.items()]
    return list(_available(found, missing))


def reader(scene: Scene) -> Reader:
    """Let a scene of one image be read in the windows of a look."""
    return lambda look: scene.read(look.windows)[0]


@dataclass(frozen=True)
class _Entry:
    label: str
    preparation: str
    extractor: str
    settings: Mapping[str, str]


def _choices(field: str) -> list[str]:
    """List what a setting of ``integral`` may be, besides ``auto``."""
    info = registry.config_class("patch_extractor", "integral").model_fields[field]
    return [one for one in get_args(info.annotation) if one != "auto"]


def _available(found: list[_Entry], missing: dict[str, str]) -> Iterator[Contender]:
    probe = np.zeros((PATCH, PATCH, 3), np.uint8)
    look = draw_looks(1, PATCH, 0)[0]
    for one in found:
        try:
            extractor = create("patch_extractor", one.extractor, patch_size=PATCH, **one.settings)
            contender = _contender(one.label, one.preparation, extractor)
            contender.prepare(probe)(look)
        except ValueError as error:  # a ConfigError is one
            missing[one.label] = str(error)
        else:
            yield contender


def _contender(label: str, preparation: str, extractor: PatchExtractor) -> Contender:
    return Contender(label, preparation, lambda image: reader(extractor.prepare(image)), True)
