"""Images in tar shards, such as those of webdataset, read in any order and never extracted."""

import re
from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np

from fovea.data.config import TRAIN, ShardsConfig, Split
from fovea.data.labels import Label, class_names, class_numbers, natural
from fovea.data.names import Names, printable
from fovea.data.tars import TarImage, list_images, read_member
from fovea.decoding import BadImage, read_image
from fovea.interfaces import DataSet, Sample


class Shards(DataSet):
    """Data set ``shards``: images in tars, labelled by ``.cls`` or ``.json``, by folders, or not.

    Where any image of a split has a file for its label, folders are no classes. All headers are
    read once, when the data set is opened; an image is then one read of its bytes.

    Raises:
        ValueError: there are no shards or images, or a shard is damaged, or is of both splits.
    """

    Config = ShardsConfig

    def __init__(self, config: ShardsConfig, *, split: Split, channels: int):
        self.root = Path(config.root)
        self.shards = find_shards(config, split)
        listed = [_images(shard) for shard in self.shards]
        images = [image for shard in listed for image in shard]
        if not images:
            raise ValueError(f"data.{split}: no images in its tars, such as {self.shards[0]}")
        labels = trained = _labels(images)
        if split != "train":  # a split may lack a class; numbers are those of training
            shards = find_shards(config, "train")
            trained = _labels([image for shard in shards for image in _images(shard)])
        self.classes = class_names(trained, "data.train")
        self.labels = class_numbers(labels, self.classes, f"data.{split}")
        self.names = Names(image.name for image in images)
        self.shard = np.repeat(np.arange(len(listed)), [len(shard) for shard in listed])
        self.offset = np.array([image.offset for image in images])
        self.size = np.array([image.size for image in images])
        self.faults = {i: image.fault for i, image in enumerate(images) if image.fault}
        self.decode = config.decode
        self.read = partial(read_image, channels=channels, max_pixels=config.max_pixels)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Name an image by its shard, below root, and its path in there."""
        return printable(self._name(index))

    def sample(self, index: int, epoch: int) -> Sample:
        """Read one image as it is; nothing is drawn."""
        name = self._name(index)
        if index in self.faults:
            raise BadImage(f"{name!r} cannot be used: {self.faults[index]}")
        shard = self.shards[self.shard[index]]
        stream = read_member(shard, int(self.offset[index]), int(self.size[index]), name)
        return Sample(self.read(stream, name=name).numpy(), int(self.labels[index]))

    def reduced(self, shorter_side: int) -> "Shards":
        """Return the same images with large JPEGs decoded smaller, unless ``decode`` is full."""
        if self.decode == "full":
            return self
        other = copy(self)
        other.read = partial(self.read, shorter_side=shorter_side)
        return other

    def _name(self, index: int) -> str:
        return f"{shard_name(self.shards[self.shard[index]], self.root)}/{self.names[index]}"


def shard_name(shard: Path, root: Path) -> str:
    """Name a shard by its path below a folder; the single shard, by its own name."""
    return shard.name if shard == root else str(shard.relative_to(root))


def find_shards(config: ShardsConfig, split: Split) -> list[Path]:
    """List the shards of a split, in natural order.

    Raises:
        ValueError: there are none, one that a pattern counts is missing, or one is of train too.
    """
    root = Path(config.root)
    patterns = {"train": config.train, "val": config.val, "test": config.test}
    if root.is_file():
        if split != "train":
            raise ValueError(f"data.root: {root} is a single file, without a {split} split")
        return [root]
    if not root.is_dir():
        raise ValueError(f"data.root: there is no folder or file {root}")
    found = _matches(root, patterns[split], f"data.{split}")
    if split != "train" and (both := set(found) & set(find_shards(config, "train"))):
        raise ValueError(f"data.{split}: {min(both)} is in the train split too")
    if found:
        return found
    others = _matches(root, config.val, "data.val") + _matches(root, config.test, "data.test")
    if split == "train" and config.train == TRAIN and not others:
        found = [Path(name) for name in natural(map(str, root.glob("*.tar")))]
    if not found:
        raise ValueError(f"data.{split}: no .tar file in {root} is one of {patterns[split]!r}")
    return found


def _matches(root: Path, pattern: str, key: str) -> list[Path]:
    """Find what a pattern stands for; of several that braces give, each must find something."""
    found: dict[Path, None] = {}
    patterns = _expanded(pattern)
    for one in patterns:
        if not one or one.startswith("/") or ".." in one.split("/"):
            raise ValueError(f"{key}: expected names or patterns below root, found {one!r}")
        globs = [one] if one.endswith(".tar") else [f"{one}/*.tar", f"{one}*.tar"]
        names = natural(str(path) for glob in globs for path in root.glob(glob))
        if not names and len(patterns) > 1:
            raise ValueError(f"{key}: there is no shard {root / one}")
        found |= dict.fromkeys(map(Path, names))
    return list(found)


def _expanded(pattern: str) -> list[str]:
    """Expand {a,b} and {000..146} as shells do."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    choices: Sequence[str] = match[1].split(",")
    if bounds := re.fullmatch(r"(\d+)\.\.(\d+)", match[1]):
        first, last = int(bounds[1]), int(bounds[2])
        choices = [f"{number:0{len(bounds[1])}}" for number in range(first, last + 1)]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [one for choice in choices for one in _expanded(f"{before}{choice}{after}")]


def _images(shard: Path) -> list[TarImage]:
    images, damage = list_images(shard)
    if damage is not None:
        raise ValueError(f"data.root: {damage}")
    return images


def _labels(images: Sequence[TarImage]) -> list[Label]:
    """Choose between files with labels and class folders, for all images alike."""
    if any(image.label is not None for image in images):
        return [image.label for image in images]
    return [image.folder for image in images]
