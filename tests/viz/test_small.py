"""A scene seen small is its image, shrunk."""

import numpy as np
import pytest

import fovea
from fovea.extract.tiles import ArraySource
from fovea.viz.small import seen_small, shrunk, small


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_a_square_scene_seen_small_is_the_image_shrunk():
    image = noise(128, 128)
    scene = fovea.create("patch_extractor", "resize", patch_size=16).prepare([image])
    found = seen_small(scene, 64)
    assert found.shape == (64, 64, 3)
    assert np.abs(found.astype(int) - shrunk(image, 64)).max() <= 1  # rounding


@pytest.mark.parametrize(("size", "shape"), [((90, 160), (36, 64, 3)), ((200, 40), (64, 13, 3))])
def test_a_scene_keeps_its_proportions_and_its_corners(size, shape):
    rows, columns = np.indices(size)
    image = np.stack([rows * 255 // size[0], columns * 255 // size[1], rows * 0], -1).astype(
        np.uint8
    )
    pyramid = fovea.create("patch_extractor", "pyramid", patch_size=16)
    found = small(ArraySource(image), pyramid, 64)
    assert found.shape == shape
    down, across = (np.linspace(0, 255, count, endpoint=False) for count in shape[:2])
    assert np.abs(found[..., 0] - down[:, None]).max() < 12
    assert np.abs(found[..., 1] - across).max() < 16


def test_an_image_in_memory_is_not_read_as_a_scene():
    image = noise(30, 50)
    assert small(image, None, 64) is image
