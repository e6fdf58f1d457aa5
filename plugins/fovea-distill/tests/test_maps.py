"""The teacher's picture, the places of its cells, and its features as targets."""

import pytest
import torch
from fovea_distill.maps import cells, picture, standardise
from tiny import noise, seeded, tiny_model

from fovea import geometry
from fovea.images import as_images


def test_the_picture_of_a_whole_square_image_is_the_image():
    image = torch.rand(1, 64, 64, generator=seeded())
    scene = tiny_model().extractor.prepare([image])
    windows = geometry.draw_crops(scene.sizes, 4, (1.0, 1.0), 1, seeded())[:, 0]
    seen = picture(scene.read(windows))
    assert torch.allclose(seen[0], as_images([image])[0].movedim(-1, 0).float(), atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 4, 7])
def test_cells_cover_what_the_view_covers(side):
    scene = noise(tiny_model())
    view = geometry.draw_crops(scene.sizes, 4, (0.3, 0.9), 1, seeded())[:, 0]
    found = cells(view, side, scene.sizes)
    assert found.shape == (3, side * side, 3)
    corners = geometry.window_edges(view, scene.sizes), geometry.window_edges(found, scene.sizes)
    for low, high in ((slice(0, 2), slice(2, 4)),):
        assert torch.allclose(corners[0][..., low].amin(1), corners[1][..., low].amin(1))
        assert torch.allclose(corners[0][..., high].amax(1), corners[1][..., high].amax(1))


def test_as_many_cells_as_windows_are_the_windows():
    scene = noise(tiny_model())
    view = geometry.draw_crops(scene.sizes, 4, (0.3, 0.9), 1, seeded())[:, 0]
    assert torch.allclose(cells(view, 4, scene.sizes), view)


def test_channels_have_mean_0_and_deviation_1():
    features = torch.randn(4, 9, 5, generator=seeded()) * torch.tensor([1, 10, 0.1, 3, 1]) + 7
    found = standardise(features).flatten(0, 1)
    assert torch.allclose(found.mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(found.std(0, correction=0), torch.ones(5), atol=1e-3)


def test_scaling_and_shifting_channels_changes_nothing():
    features = torch.randn(4, 9, 5, generator=seeded())
    scale, shift = torch.tensor([1, -2, 30, 4, 5]), torch.tensor([0, 1, 50, -3, 2])
    assert torch.allclose(
        standardise(features * scale + shift), standardise(features) * scale.sign(), atol=1e-3
    )


def test_a_constant_channel_is_nothing_to_learn():
    features = torch.full((2, 3, 1), 12.0)
    assert standardise(features).abs().max() == 0
