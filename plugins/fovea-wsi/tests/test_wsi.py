"""Slides as a data set: splits, labels, names, and scenes that show what the slide shows."""

from itertools import chain
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from conftest import SIDE, slide
from torch import Tensor

import fovea
from fovea.decoding import BadImage
from fovea.interfaces import DataSet


def data_set(root: Path, split: str = "train", channels: int = 3, **settings: object) -> DataSet:
    settings = {"region": 256} | settings if settings.get("unit") != "slide" else settings
    sizes = {"split": split, "channels": channels}
    return fovea.create("data_set", "wsi", root=str(root), **sizes, **settings)


def windows(count: int, low: float, high: float) -> Tensor:
    drawn = torch.rand(1, count, 3, generator=torch.Generator().manual_seed(0)).double()
    drawn[..., 2] = low + drawn[..., 2] * (high - low)
    return drawn


@pytest.mark.parametrize("unit", [{"unit": "slide"}, {"region": 256}])
def test_contract(contract, root, unit):
    contract("data_set", "wsi", root=str(root), **unit)


def test_a_region_is_read_as_its_pixels_are(root):
    data = data_set(root)
    whole = slide(0).pixels(0, 0, SIDE, SIDE)
    pyramid = fovea.create("patch_extractor", "pyramid", patch_size=8)
    resize = fovea.create("patch_extractor", "resize", patch_size=8)
    near, far = windows(60, 2.5, 6.0), windows(60, -0.5, 2.0)
    regions = [index for index in range(len(data)) if data.name(index).startswith("pink/0.tif[")]
    assert regions
    for index in regions:
        left, top = map(int, data.name(index).split("[")[1][:-1].split(","))
        found = pyramid.prepare([data.sample(index, 0).image])
        expected = resize.prepare([whole[top : top + 256, left : left + 256]])
        assert torch.allclose(found.read(near), expected.read(near), atol=1e-5)  # finest level
        apart = (found.read(far) - expected.read(far)).abs()
        assert apart.max() < 0.15
        assert apart.square().mean().sqrt() < 0.015


def test_regions_are_those_with_tissue_and_all_where_none_is_asked_for(root):
    planted = slide(0).tissue(np.arange(SIDE), np.arange(SIDE))
    share = planted.reshape(4, 256, 4, 256).mean((1, 3))

    def named(chosen):
        return {f"pink/0.tif[{x * 256},{y * 256}]" for y, x in np.argwhere(chosen)}

    certain, none = named(share > 0.35), named(share < 0.15)
    some, every = data_set(root), data_set(root, tissue=0.0)
    found = {some.name(i) for i in range(len(some)) if some.name(i).startswith("pink")}
    assert certain
    assert none
    assert certain <= found
    assert not none & found
    assert {every.name(i) for i in range(16)} == named(share >= 0)
    assert len(every) == 32


def test_labels_are_the_folders(root):
    data = data_set(root, "val")
    assert data.classes == ("pink", "violet")
    for index in range(len(data)):
        assert data.classes[data.sample(index, 0).label] == data.name(index).split("/")[0]


def test_whole_slides_are_scenes_too(root):
    data = data_set(root, unit="slide")
    assert [data.name(i) for i in range(len(data))] == ["pink/0.tif", "violet/1.tif"]
    scene = fovea.create("patch_extractor", "pyramid").prepare([data.sample(1, 0).image])
    assert scene.sizes.tolist() == [[SIDE, SIDE]]


@pytest.fixture
def flat(root, tmp_path):
    copytree(root / "train/pink", tmp_path / "slides/pink")
    copytree(root / "val", tmp_path / "slides", dirs_exist_ok=True)
    return tmp_path / "slides"


def test_a_split_that_is_drawn_is_the_same_again_and_another_by_another_seed(flat):
    def names(seed: int, split: str) -> list[str]:
        shares = [0.34, 0.33, 0.33]
        data = data_set(flat, split, unit="slide", shares=shares, split_seed=seed)
        return [data.name(i) for i in range(len(data))]

    for seed in range(4):
        drawn = [names(seed, split) for split in ("train", "val", "test")]
        assert sorted(chain(*drawn)) == ["pink/0.tif", "pink/2.tif", "violet/3.tif"]
        assert drawn[0] == names(seed, "train")
    assert len({names(seed, "train")[0] for seed in range(8)}) > 1


def test_without_split_folders_all_is_train(flat):
    assert len(data_set(flat, unit="slide")) == 3
    with pytest.raises(ValueError, match=r"data.val: .* set data.shares to draw splits"):
        data_set(flat, "val", unit="slide")


@pytest.mark.parametrize("unit", [{"unit": "slide"}, {"region": 256}])
def test_a_truncated_slide_is_one_bad_image_with_its_name(flat, unit):
    file = flat / "pink/0.tif"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    data = data_set(flat, **unit)
    (bad,) = [i for i in range(len(data)) if data.name(i) == "pink/0.tif"]
    for _ in range(2):
        with pytest.raises(BadImage, match=r"pink/0.tif' cannot be used: "):
            data.sample(bad, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "/nowhere"}, "data.root: there is no folder"),
        ({"region": 2048}, "data.tissue: no region of 2 slides has 2048 x 2048 pixels"),
        ({"unit": "slide", "tissue": 0.5}, "tissue: has no effect with unit=slide"),
        ({"tissue": 0.0, "saturation": 0.1}, "saturation: has no effect with tissue=0"),
        ({"split_seed": 3}, "split_seed: needs shares"),
        ({"shares": [0.5, 0.4, 0.2]}, "shares: expected three that add up to 1"),
        ({"shares": [0.5, 0.5, 0.0], "val": "v"}, "val: names no folder beside shares"),
        ({"shares": [0.5, 0.5, 0.0]}, "data.shares: .* has a folder train; take one or the other"),
        ({"region": 100}, "region: .*multiple of 16"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(root, settings, message):
    with pytest.raises(ValueError, match=message):
        data_set(settings.pop("root", root), **settings)


def test_slides_of_other_channels_are_bad_images(root):
    data = data_set(root, channels=1, unit="slide")
    with pytest.raises(BadImage, match=r"0.tif' has 3 channels; expected 1"):
        data.sample(0, 0)
