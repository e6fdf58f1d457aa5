"""Image files below a folder, found by timm's reader."""

from copy import copy
from functools import partial
from pathlib import Path
from typing import Literal

from timm.data.readers.reader_image_folder import find_images_and_targets

from fovea.data.config import FolderConfig
from fovea.images import read_image
from fovea.interfaces import DataSet, Sample


class ImageFolder(DataSet):
    """Data set ``folder``: labelled by class folders, or flat and without labels.

    The train split is ``root/train`` where that exists, else all of root. Images keep their size,
    unless ``reduced``.

    Raises:
        ValueError: the folder does not exist or holds no images.
    """

    Config = FolderConfig

    def __init__(
        self, config: FolderConfig, *, split: Literal["train", "val", "test"], channels: int
    ):
        self.folder = _split_folder(config, split)
        found, classes = find_images_and_targets(str(self.folder))
        if not found:
            raise ValueError(f"data.root: no images below {self.folder}")
        if split != "train":  # a split may lack a class; numbers are those of training
            _, trained = find_images_and_targets(str(_split_folder(config, "train")))
            unknown = sorted(set(classes) - set(trained))
            if unknown:
                raise ValueError(f"data.{split}: {unknown[0]} is no class of the train split")
            found, classes = find_images_and_targets(str(self.folder), class_to_idx=trained)
        self.files = found
        self.classes = () if set(classes) == {""} else tuple(classes)
        self.decode = config.decode
        self.read = partial(read_image, channels=channels, max_pixels=config.max_pixels)

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Name an image by its path below the split's folder."""
        return str(Path(self.files[index][0]).relative_to(self.folder))

    def sample(self, index: int, epoch: int) -> Sample:
        """Read one image as it is; nothing is drawn."""
        file, label = self.files[index]
        return Sample(self.read(file).numpy(), label if self.classes else -1)

    def reduced(self, shorter_side: int) -> "ImageFolder":
        """Return the same folder with large JPEGs decoded smaller, unless ``decode`` is full."""
        if self.decode == "full":
            return self
        other = copy(self)
        other.read = partial(self.read, shorter_side=shorter_side)
        return other


def _split_folder(config: FolderConfig, split: Literal["train", "val", "test"]) -> Path:
    root = Path(config.root)
    if not root.is_dir():
        raise ValueError(f"data.root: there is no folder {root}")
    folder = root / {"train": config.train, "val": config.val, "test": config.test}[split]
    if folder.is_dir():
        return folder
    if split == "train":
        if (root / config.val).is_dir():
            raise ValueError(f"data.root: {root} has {config.val}/ but no {config.train}/")
        return root
    raise ValueError(f"data.{split}: there is no folder {folder} for the {split} split")
