"""Slides as a data set: whole ones, or the regions of them that hold tissue."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fovea.data.config import Split
from fovea.data.names import Names, printable
from fovea.decoding import BadImage
from fovea.interfaces import DataSet, Sample
from fovea_wsi.config import CELLS, WsiConfig
from fovea_wsi.crop import Crop
from fovea_wsi.slides import find_slides, open_slide
from fovea_wsi.tissue import tissue_mask


class Wsi(DataSet):
    """Data set ``wsi``: its images are opened by the extractor, in the process that reads them.

    Nothing is drawn, and no slide is ever held whole. Regions lie edge to edge from the upper left;
    what is left over at the right and at the bottom is in none. A slide that cannot be read
    counts as one image, so that training names it.

    Raises:
        ValueError: there are no slides, or no region of any holds enough tissue.
    """

    Config = WsiConfig

    def __init__(self, config: WsiConfig, *, split: Split, channels: int):
        slides = find_slides(config, split)
        self.config, self.channels = config, channels
        self.folder, self.classes = slides.folder, slides.classes
        self.files, self.labels = Names(slides.files), np.array(slides.labels, np.int64)
        self.places, self.faults = _places(config, slides.folder, slides.files, channels)
        if not len(self.places):
            raise ValueError(
                f"data.tissue: no region of {len(slides.files)} slides has {config.region} x "
                f"{config.region} pixels and {config.tissue:.0%} tissue; set less tissue or region"
            )

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """Name a slide by its path below the split's folder, a region also by its corner."""
        slide, left, top = self.places[index].tolist()
        file = printable(self.files[slide])
        return file if self._is_whole(slide) else f"{file}[{left},{top}]"

    def sample(self, index: int, epoch: int) -> Sample:
        """Open the slide and return it, or the region of it, unread."""
        slide, left, top = self.places[index].tolist()
        if slide in self.faults:
            raise BadImage(self.faults[slide])
        source = open_slide(self.folder / self.files[slide], self.channels)
        label, side = int(self.labels[slide]), self.config.region
        if self._is_whole(slide):
            return Sample(source, label)
        return Sample(Crop(source, left, top, side, side, self.name(index)), label)

    def _is_whole(self, slide: int) -> bool:
        return self.config.unit == "slide" or slide in self.faults


@dataclass(frozen=True)
class _Found:
    """Upper left corners (x, y) of a slide's regions, int64 [n, 2]; or why there are none."""

    corners: NDArray[np.int64]
    fault: str | None = None


def _places(
    config: WsiConfig, folder: Path, files: tuple[str, ...], channels: int
) -> tuple[NDArray[np.int64], dict[int, str]]:
    """List images: -> int64 [n, 3] of slide, left and top; and what is wrong with which slide."""
    places, faults = [np.zeros((0, 3), np.int64)], {}
    for number, file in enumerate(files):
        found = _Found(np.zeros((1, 2), np.int64))
        if config.unit == "region":
            found = _regions(
                folder / file, config.region, config.tissue, config.saturation, channels
            )
        if found.fault is not None:
            faults[number] = found.fault
        places.append(np.insert(found.corners, 0, number, axis=1))
    return np.concatenate(places), faults


@cache  # a run opens its train split more than once
def _regions(
    file: Path, side: int, tissue: float, saturation: float | None, channels: int
) -> _Found:
    """Find the regions of a slide that hold enough tissue."""
    try:
        source = open_slide(file, channels)
        if tissue:
            mask = tissue_mask(source, side // CELLS, saturation)
        else:
            full = source.levels[0]
            mask = np.ones((full.height // side * CELLS, full.width // side * CELLS), bool)
    except BadImage as error:
        return _Found(np.zeros((1, 2), np.int64), str(error))
    return _Found(corners(mask, tissue) * side)


def corners(mask: NDArray[np.bool_], least: float) -> NDArray[np.int64]:
    """Find regions: mask [rows, columns] of cells -> int64 [n, 2], (x, y) in regions."""
    rows, columns = (count // CELLS for count in mask.shape)
    whole = mask[: rows * CELLS, : columns * CELLS]
    share = whole.reshape(rows, CELLS, columns, CELLS).mean((1, 3))
    return np.argwhere(share >= least)[:, ::-1]
