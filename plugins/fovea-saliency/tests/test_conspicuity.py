"""Laws of the saliency map."""

import math

import pytest
import torch
from fovea_saliency.conspicuity import blur, opponents, promote, saliency
from torch import Tensor

SCALES, SURROUND, M = (0.05, 0.1), 3.0, 16


def blob(row: int, column: int, width: float = 1.0) -> Tensor:
    """Draw a soft bright spot on black: [1, 1, M, M]."""
    place = torch.arange(M)
    down, across = torch.meshgrid(place - row, place - column, indexing="ij")
    return torch.exp(-(down**2 + across**2) / (2 * width**2))[None, None]


def measured(picture: Tensor, inside: Tensor | None = None) -> Tensor:
    inside = torch.ones(len(picture), M, M) if inside is None else inside
    return saliency(picture, inside, SCALES, SURROUND)


def noise(channels: int, seed: int = 0) -> Tensor:
    return torch.rand(2, channels, M, M, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("row", "column"), [(3, 11), (0, 0), (8, 15)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_blob_stands_out_whether_bright_or_dark(row: int, column: int, sign: int) -> None:
    found = measured(0.5 + 0.4 * sign * blob(row, column))
    assert found.max() == 1
    assert found.flatten().argmax() == row * M + column


def test_a_colour_stands_out_though_it_is_no_brighter() -> None:
    grey = torch.full((1, 3, M, M), 0.5)
    spot = 0.3 * blob(4, 5)[:, 0]
    coloured = torch.stack([grey[:, 0] + spot, grey[:, 1] - spot, grey[:, 2]], dim=1)
    assert measured(coloured).flatten().argmax() == 4 * M + 5
    assert not measured(coloured.mean(1, keepdim=True)).any()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_uniform_picture_has_nothing_that_stands_out(channels: int) -> None:
    assert not measured(torch.full((2, channels, M, M), 0.3)).any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("turn", ["flip", "mirror", "transpose"])
def test_a_turned_picture_has_its_saliency_turned(channels: int, turn: str) -> None:
    def turned(values: Tensor) -> Tensor:
        if turn == "transpose":
            return values.mT
        return values.flip(-2 if turn == "flip" else -1)

    picture = noise(channels)
    torch.testing.assert_close(measured(turned(picture)), turned(measured(picture)))


def test_brightness_and_contrast_do_not_matter() -> None:
    picture = noise(1)
    torch.testing.assert_close(measured(0.2 + 0.5 * picture), measured(picture))


def test_what_lies_outside_has_no_influence() -> None:
    inside = torch.ones(2, M, M)
    inside[:, :, 10:] = 0
    picture, other = noise(1), noise(1, seed=1)
    other[..., :10] = picture[..., :10]
    torch.testing.assert_close(measured(other, inside), measured(picture, inside))
    assert not measured(picture, inside)[:, :, 10:].any()


def test_blur_equals_the_weighted_mean_written_out() -> None:
    picture, weight, scale = noise(1), noise(1, seed=1), 0.1
    blurred = blur(picture, weight, scale)
    for row, column in ((0, 0), (5, 9), (15, 2)):
        total, weights = 0.0, 0.0
        for i in range(M):
            for j in range(M):
                square = ((i - row) / M) ** 2 + ((j - column) / M) ** 2
                share = math.exp(-square / (2 * scale**2)) * float(weight[0, 0, i, j])
                total += share * float(picture[0, 0, i, j])
                weights += share
        assert float(blurred[0, 0, row, column]) == pytest.approx(total / weights, rel=1e-4)


def test_one_spot_counts_for_more_than_many() -> None:
    one = blob(3, 3)
    many = sum((blob(i, j) for i in (3, 8, 13) for j in (3, 8, 13)), torch.zeros_like(one))
    weight = torch.ones(1, 1, M, M)
    assert promote(one, weight).amax() > promote(many, weight).amax() > 0


def test_opponents_of_grey_colours_are_nothing() -> None:
    grey = noise(1).expand(-1, 3, -1, -1)
    features = opponents(grey)
    torch.testing.assert_close(features[:, :1], grey[:, :1])
    torch.testing.assert_close(features[:, 1:], torch.zeros(2, 2, M, M))
    torch.testing.assert_close(opponents(noise(1)), noise(1))
