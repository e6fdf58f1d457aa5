"""Image files below a folder, found by timm's reader."""

import os
from collections.abc import Sequence
from copy import copy
from functools import partial
from pathlib import Path

from timm.data.readers.reader_image_folder import find_images_and_targets

from fovea.data.config import TRAIN, FolderConfig, Split
from fovea.data.labels import Label, class_names, class_numbers, natural
from fovea.data.names import Names, printable
from fovea.decoding import IMAGE_SUFFIXES, read_image
from fovea.interfaces import DataSet, Sample


class ImageFolder(DataSet):
    """Data set ``folder``: labelled by class folders, or flat and without labels.

    The train split is ``root/train`` where that exists, else all of root. Images keep their size,
    unless ``reduced``. Those beside class folders, in none of them, have no label.

    Raises:
        ValueError: the folder does not exist or holds no images.
    """

    Config = FolderConfig

    def __init__(self, config: FolderConfig, *, split: Split, channels: int):
        self.folder = _split_folder(config, split)
        files = _list_images(self.folder)
        if not files:
            raise ValueError(f"data.root: no images below {self.folder}")
        labels = trained = _labels(files)
        if split != "train":  # a split may lack a class; numbers are those of training
            trained = _labels(_list_images(_split_folder(config, "train")))
        self.classes = class_names(trained, "data.train")
        self.labels = class_numbers(labels, self.classes, f"data.{split}")
        self.files = Names(files)
        self.decode = config.decode
        self.read = partial(read_image, channels=channels, max_pixels=config.max_pixels)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Name an image by its path below the split's folder."""
        return printable(self.files[index])

    def sample(self, index: int, epoch: int) -> Sample:
        """Read one image as it is; nothing is drawn."""
        image = self.read(self.folder / self.files[index])
        return Sample(image.numpy(), int(self.labels[index]))

    def reduced(self, shorter_side: int) -> "ImageFolder":
        """Return the same folder with large JPEGs decoded smaller, unless ``decode`` is full."""
        if self.decode == "full":
            return self
        other = copy(self)
        other.read = partial(self.read, shorter_side=shorter_side)
        return other


def _list_images(folder: Path) -> list[str]:
    """List images by their paths below a folder, in natural order."""
    found, _ = find_images_and_targets(str(folder), types=IMAGE_SUFFIXES, sort=False)
    return natural(file.removeprefix(f"{folder}{os.sep}") for file, _ in found)


def _labels(files: Sequence[str]) -> list[Label]:
    """Name the folder that each image lies in; None at the top."""
    return [os.path.basename(os.path.dirname(file)) or None for file in files]


def _split_folder(config: FolderConfig, split: Split) -> Path:
    root = Path(config.root)
    if not root.is_dir():
        raise ValueError(f"data.root: there is no folder {root}")
    folder = root / {"train": config.train, "val": config.val, "test": config.test}[split]
    if folder.is_dir():
        return folder
    if split == "train" and config.train == TRAIN:
        if (root / config.val).is_dir():
            raise ValueError(f"data.root: {root} has {config.val}/ but no {config.train}/")
        return root
    raise ValueError(f"data.{split}: there is no folder {folder} for the {split} split")
