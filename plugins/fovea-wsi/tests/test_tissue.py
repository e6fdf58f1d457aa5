"""The mask finds what was planted, and leaves glass out."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import SIDE, slide
from fovea_wsi.synthetic import Synthetic
from fovea_wsi.tissue import HIGHEST, LOWEST, mean_colours, otsu, tissue_mask
from fovea_wsi.wsi import corners

from fovea.extract.files import open_source
from fovea.extract.tiles import ArraySource


@pytest.mark.parametrize("cell", [4, 16, 32])
def test_planted_blobs_are_found(root: Path, cell: int) -> None:
    mask = tissue_mask(open_source(root / "train/pink/0.tif"), cell, None)
    planted = slide(0).tissue(np.arange(SIDE), np.arange(SIDE))
    share = planted.reshape(SIDE // cell, cell, SIDE // cell, cell).mean((1, 3))
    assert mask.shape == share.shape
    assert mask[share == 1].all()
    assert not mask[share == 0].any()


@pytest.mark.parametrize("blobs", [0, 60])
def test_glass_alone_is_none_and_tissue_alone_is_all(blobs: int) -> None:
    pixels = Synthetic(512, blobs=blobs, tile=64).pixels(224, 224, 64, 64)
    assert tissue_mask(ArraySource(pixels), 8, None).all() == bool(blobs)
    assert tissue_mask(ArraySource(pixels), 8, None).any() == bool(blobs)


def test_black_and_grey_are_no_tissue_in_colour_and_dark_is_in_grey() -> None:
    pixels = np.full((64, 64, 3), 120, np.uint8)
    pixels[:32] = 0
    assert not tissue_mask(ArraySource(pixels), 8, None).any()
    assert tissue_mask(ArraySource(pixels[..., :1]), 8, 0.6)[:4].all()
    assert not tissue_mask(ArraySource(pixels[..., :1]), 8, 0.6)[4:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "cell"), [((96, 160), 8), ((131, 77), 10), ((48, 50), 48)])
def test_mean_colours_equal_a_plain_loop(
    tmp_path: Path, shape: tuple[int, int], cell: int, dtype: type
) -> None:
    white = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, white, (*shape, 3), dtype, endpoint=True)
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, pixels, tile=(32, 48), compression="deflate", photometric="rgb")
    rows, columns = shape[0] // cell, shape[1] // cell
    slow = [
        [pixels[y : y + cell, x : x + cell].mean((0, 1)) / white for x in starts(columns, cell)]
        for y in starts(rows, cell)
    ]
    for source in (open_source(file), ArraySource(pixels)):
        assert np.allclose(mean_colours(source, cell), slow, atol=1e-9)


def starts(count: int, cell: int) -> range:
    return range(0, count * cell, cell)


def test_otsu_leaves_the_least_variance_within() -> None:
    g = np.random.default_rng(0)
    values = np.concatenate([g.normal(0.1, 0.03, 900), g.normal(0.5, 0.1, 100)]).clip(0, 1)

    def within(threshold: float) -> float:
        parts = values[values <= threshold], values[values > threshold]
        return sum(len(part) * part.var() for part in parts if len(part))

    best = min(within(threshold) for threshold in np.linspace(0, 1, 257))
    assert within(otsu(values)) <= best * 1.02
    assert 0 < LOWEST < HIGHEST < 1


def test_regions_have_their_share_of_tissue() -> None:
    mask = np.zeros((40, 50), bool)  # 2 x 3 regions of 16 x 16 cells, and what is left over
    mask[:16, 16:32] = True
    mask[16:20, :16] = True
    mask[32:] = True
    assert corners(mask, 0.25).tolist() == [[1, 0], [0, 1]]
    assert corners(mask, 0.26).tolist() == [[1, 0]]
    assert len(corners(mask, 0.0)) == 6
