"""Decoding no more than is seen: which pixels are read, and how little patches change."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch import Tensor

import fovea
from fovea import geometry
from fovea.config import ConfigError
from fovea.data.config import FolderConfig
from fovea.data.folder import ImageFolder
from fovea.decoding import read_image
from fovea.engine.run import load_data
from fovea.interfaces import DataSet
from fovea.recipe import Recipe, read_recipe

P = 16


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Put a photograph in a folder, mirrored to 1201 x 1027 pixels, an odd size."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        tile = np.asarray(picture.convert("RGB"))  # [600, 512, 3]
    tiled = np.pad(tile, [(0, 601), (0, 515), (0, 0)], "symmetric")
    Image.fromarray(tiled).save(tmp_path / "photo.jpg", quality=90)
    return tmp_path


def folder(root: Path, **settings: object) -> ImageFolder:
    return ImageFolder(FolderConfig(root=str(root), **settings), split="train", channels=3)


def recipe(root: Path, **changes: str) -> Recipe:
    words = ["data.name=folder", f"data.root={root}", "model.name=vits16_foveal"]
    return read_recipe(
        "quickstart", [*words, *(f"{key}={value}" for key, value in changes.items())]
    )


def shape(data: DataSet) -> tuple[int, ...]:
    return data.sample(0, 0).image.shape


def test_a_folder_is_decoded_at_the_size_that_is_needed(photos: Path) -> None:
    data = folder(photos)
    assert shape(data) == (1201, 1027, 3)
    assert shape(data.reduced(514)) == (1201, 1027, 3)
    assert shape(data.reduced(513)) == (601, 514, 3)
    assert shape(data.reduced(200)) == (300, 257, 3)
    assert shape(data.reduced(9)) == (150, 128, 3)
    assert shape(data) == (1201, 1027, 3)  # as it was


def test_a_folder_that_is_decoded_in_full_has_the_pixels_of_the_file(photos: Path) -> None:
    data = folder(photos, decode="full")
    assert data.reduced(9) is data
    assert torch.equal(torch.from_numpy(data.sample(0, 0).image), read_image(photos / "photo.jpg"))


def test_a_data_set_that_reads_no_files_is_the_same_at_any_size() -> None:
    data = fovea.create("data_set", "fashion", split="val", channels=1)
    assert data.reduced(1) is data


def test_a_run_reads_what_its_finest_zoom_takes(photos: Path) -> None:
    assert shape(load_data(recipe(photos), "train")) == (1201, 1027, 3)
    assert shape(load_data(recipe(photos), "train", 4.0)) == (601, 514, 3)  # 2 * 16 * 2**4 = 512
    assert shape(load_data(recipe(photos), "train", 4.1)) == (1201, 1027, 3)
    full = recipe(photos, **{"data.decode": "full"})
    assert shape(load_data(full, "train", 4.0)) == (1201, 1027, 3)


def test_a_mistaken_switch_is_named(photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.decode"):
        recipe(photos, **{"data.decode": "half"})


def patches(image: np.ndarray, windows: Tensor) -> Tensor:
    extractor = fovea.create("patch_extractor", "integral", patch_size=P)
    read: Tensor = extractor.prepare([image]).read(windows)
    return read * 255


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_patches_of_a_reduced_photo_are_off_by_no_more_than_is_stated(
    photos: Path, scale: int
) -> None:
    """The bounds are those that ``PIXELS_PER_CELL`` states for the worst of photographs."""
    whole = folder(photos).sample(0, 0).image
    finest = math.log2(1027 // scale / geometry.PIXELS_PER_CELL / P)
    side = geometry.needed_side(finest, P)
    assert side is not None
    reduced = folder(photos).reduced(side).sample(0, 0).image
    assert min(reduced.shape[:2]) == round(1027 / scale)
    generator = torch.Generator().manual_seed(0)
    for out, stated in ((0, 5.0), (1, 2.5), (2, 1.25)):
        area = 4.0 ** (out - finest)
        windows = geometry.draw_crops(
            torch.tensor([whole.shape[:2]]), 1, (area, area), 200, generator
        )[:, :, 0]
        difference = (patches(whole, windows) - patches(reduced, windows)).abs().flatten()
        assert difference.square().mean().sqrt() < stated
        assert np.quantile(difference.numpy(), 0.999) < 34
