"""The slides of a split, by folders or drawn, and their labels."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from fovea.data.config import Split
from fovea.data.labels import class_names, class_numbers, natural
from fovea.decoding import BadImage
from fovea.extract.files import SLIDES, open_source
from fovea.extract.tiles import TileSource
from fovea_wsi.config import WsiConfig

SUFFIXES = {*SLIDES, ".tif", ".tiff", ".btf"}
"""Endings, in lower case, of the names that are taken for slides."""
_SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Slides:
    """Slides of a split.

    Attributes:
        folder: that they lie in.
        files: paths below it, in natural order.
        labels: class index of each, -1 where unknown: the folder that a slide lies in.
        classes: names of the classes.
    """

    folder: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


def find_slides(config: WsiConfig, split: Split) -> Slides:
    """List the slides of a split.

    Raises:
        ValueError: there is no such folder, or no slide for the split.
    """
    folder = _folder(config, split)
    files = _files(folder)
    if not files:
        raise ValueError(f"data.root: no slides below {folder}")
    known = files
    if config.shares is not None:
        files = _drawn(files, config.shares, config.split_seed, split)
    elif split != "train":  # a split may lack a class; numbers are those of training
        known = _files(_folder(config, "train"))
    classes = class_names(map(_label, known), "data.train")
    labels = class_numbers(map(_label, files), classes, f"data.{split}")
    return Slides(folder, tuple(files), tuple(labels.tolist()), classes)


def open_slide(file: Path, channels: int) -> TileSource:
    """Open a slide, and look at the end of each of its levels, where a truncated file has none.

    Raises:
        BadImage: it is missing, damaged or no slide, or has other channels.
        ImportError: its format needs a library that is not installed.
    """
    source = open_source(file, channels)
    if source.channels not in ((1, 3) if channels == 3 else (channels,)):
        raise BadImage(f"{source.name} has {source.channels} channels; expected {channels}")
    for number, level in enumerate(source.levels):
        height, width = level.tile or (1, 1)
        top = (level.height - 1) // height * height
        left = (level.width - 1) // width * width
        source.read(number, top, left, level.height, level.width)
    return source


def _folder(config: WsiConfig, split: Split) -> Path:
    root = Path(config.root)
    if not root.is_dir():
        raise ValueError(f"data.root: there is no folder {root}")
    names = {"train": config.train, "val": config.val, "test": config.test}
    if config.shares is not None:
        for name in names.values():
            if (root / name).is_dir():
                raise ValueError(f"data.shares: {root} has a folder {name}; take one or the other")
        return root
    folder = root / names[split]
    if folder.is_dir():
        return folder
    if split == "train" and not any((root / name).is_dir() for name in names.values()):
        return root
    raise ValueError(f"data.{split}: there is no folder {folder}; set data.shares to draw splits")


def _files(folder: Path) -> list[str]:
    """List slides by their paths below a folder."""
    return natural(
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES
    )


def _label(file: str) -> str | None:
    return os.path.basename(os.path.dirname(file)) or None


def _drawn(
    files: list[str], shares: tuple[float, float, float], seed: int, split: Split
) -> list[str]:
    """Draw the slides of a split: the same for the same slides and seed."""
    drawn = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    number = _SPLITS.index(split)
    first, end = (round(sum(shares[:n]) * len(files)) for n in (number, number + 1))
    if first == end:
        raise ValueError(f"data.shares: {shares} of {len(files)} slides leaves none for {split}")
    return [files[place] for place in sorted(drawn[first:end])]
