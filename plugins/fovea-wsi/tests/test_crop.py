"""A crop shows what the image shows there, at every level, and nothing outside."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from fovea_wsi.crop import Crop, whole_steps

from fovea.extract.files import open_source
from fovea.extract.tiles import ArraySource


def levels(side: int, *steps: int) -> list[np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side + 16, 3), np.uint8)
    return [pixels[::step, ::step] for step in steps]


def test_each_level_is_that_part_of_the_images_level(root: Path) -> None:
    source = open_source(root / "train/pink/0.tif")
    crop = Crop(source, 320, 192, 160, 96, "crop")  # at no multiple of its tiles' 64 pixels
    assert [(one.height, one.width) for one in crop.levels] == [(96, 160), (24, 40), (6, 10)]
    for level, step in enumerate((1, 4, 16)):
        whole = open_source(root / "train/pink/0.tif")
        for y, x, height, width in ((0, 0, 6, 10), (1, 3, 4, 5), (2, 0, 4, 10)):
            top, left = 192 // step + y, 320 // step + x
            found = crop.read(level, y, x, y + height, x + width)
            expected = tile_by_tile(whole, level)[top : top + height, left : left + width]
            assert np.array_equal(found, expected)


def tile_by_tile(source, level: int) -> np.ndarray:
    size = source.levels[level]
    out = np.zeros((size.height, size.width, 3), np.uint8)
    for top in range(0, size.height, 64):
        for left in range(0, size.width, 64):
            bottom, right = min(top + 64, size.height), min(left + 64, size.width)
            out[top:bottom, left:right] = source.read(level, top, left, bottom, right)
    return out


@pytest.mark.parametrize(
    ("box", "count"),
    [((32, 32, 64, 32), 4), ((8, 8, 24, 16), 3), ((2, 2, 6, 4), 2), ((2, 2, 6, 3), 1)],
)
def test_levels_whose_pixels_lie_across_the_edge_are_left_out(
    box: tuple[int, int, int, int], count: int
) -> None:
    assert len(Crop(ArraySource(*levels(128, 1, 2, 8, 32)), *box, "crop").levels) == count


def test_a_level_that_is_cut_or_filled_up_at_the_far_edge_has_its_step() -> None:
    image = np.zeros((130, 131, 3), np.uint8)
    coarser = [np.zeros(shape, np.uint8) for shape in ((33, 33, 3), (8, 8, 3), (5, 3, 3))]
    assert whole_steps(ArraySource(image, *coarser)) == [1, 4, 16, 0]


def test_a_pickled_crop_opens_its_file_again(root: Path) -> None:
    crop = Crop(open_source(root / "train/pink/0.tif"), 256, 512, 256, 256, "crop")
    copy = pickle.loads(pickle.dumps(crop))
    assert copy.name == "crop"
    assert copy.levels == crop.levels
    assert np.array_equal(copy.read(1, 3, 5, 60, 64), crop.read(1, 3, 5, 60, 64))
    assert len(pickle.dumps(crop)) < 1000


@pytest.mark.parametrize("box", [(-1, 0, 8, 8), (0, 125, 8, 8), (0, 0, 0, 8), (140, 0, 8, 8)])
def test_a_crop_outside_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"crop: .* do not lie within 144 x 128"):
        Crop(ArraySource(*levels(128, 1)), *box, "crop")
