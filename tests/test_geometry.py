"""Laws of windows and pixels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fovea import geometry

law = settings(derandomize=True, deadline=None, max_examples=60)
sides = st.integers(1, 5000)
coordinates = st.floats(-1.0, 2.0)
zooms = st.floats(-3.0, 12.0)
SIZES = [(1, 1), (1, 5000), (5000, 300), (224, 224), (17, 23)]


def sizes_of(height: int, width: int) -> Tensor:
    return torch.tensor([[height, width]])


def window(x: float, y: float, zoom: float) -> Tensor:
    return torch.tensor([[[x, y, zoom]]], dtype=torch.float64)


def edges(windows: Tensor, height: int, width: int) -> Tensor:
    return geometry.window_edges(windows, sizes_of(height, width))[0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@law
@given(coordinates, coordinates, zooms, sides, sides)
def test_window_edges_give_the_window_back(
    x: float, y: float, zoom: float, height: int, width: int
) -> None:
    left, top, right, bottom = edges(window(x, y, zoom), height, width)[0].tolist()
    assert (left + right) / 2 / width == pytest.approx(x, abs=1e-9)
    assert (top + bottom) / 2 / height == pytest.approx(y, abs=1e-9)
    assert right - left == pytest.approx(bottom - top, abs=1e-9)
    assert math.log2(min(height, width) / (right - left)) == pytest.approx(zoom, abs=1e-6)


def test_zoom_zero_spans_the_shorter_side() -> None:
    assert edges(window(0.5, 0.5, 0.0), 40, 100).tolist() == [[30.0, 0.0, 70.0, 40.0]]


def test_multizoom_windows_are_concentric_and_halve() -> None:
    gaze = torch.tensor([[0.2, 0.7]])
    windows = geometry.multizoom(gaze, torch.arange(5))
    found = edges(windows, 300, 500)
    side = found[:, 2] - found[:, 0]
    torch.testing.assert_close(side[:-1], 2 * side[1:])
    assert (windows[0, :, :2] == gaze.double()).all()


@law
@given(coordinates, coordinates, zooms, st.integers(1, 7), sides, sides)
def test_grid_windows_are_adjacent_and_centred_in_pixels(
    x: float, y: float, zoom: float, n: int, height: int, width: int
) -> None:
    centre, zooms = torch.tensor([[x, y]], dtype=torch.float64), torch.tensor([zoom])
    found = edges(geometry.grid(centre, zooms, n, sizes_of(height, width)), height, width)
    found = found.view(n, n, 4)
    close = {"rtol": 0.0, "atol": 1e-6}
    torch.testing.assert_close(found[:, :-1, 2], found[:, 1:, 0], **close)  # right meets left
    torch.testing.assert_close(found[:-1, :, 3], found[1:, :, 1], **close)  # bottom meets top
    torch.testing.assert_close(found[:, :1, 1].expand(n, n), found[:, :, 1], **close)  # in rows
    middle = (found[0, 0, :2] + found[-1, -1, 2:]) / 2
    torch.testing.assert_close(middle, centre[0] * torch.tensor([width, height]), **close)


@law
@given(st.integers(1, 20), st.floats(1e-3, 1.0))
def test_crop_zoom_and_crop_area_undo_each_other(n: int, area: float) -> None:
    assert geometry.crop_area(n, geometry.crop_zoom(n, area)) == pytest.approx(area)


@law
@given(sides, sides, st.integers(1, 16), st.floats(0.01, 1.0), st.floats(0.0, 1.0))
def test_drawn_crops_stay_inside_the_image_and_their_area_bounds(
    height: int, width: int, n: int, low: float, share: float
) -> None:
    high, sizes = low + share * (1 - low), sizes_of(height, width).expand(2, 2)
    crops = geometry.draw_crops(sizes, n, (low, high), 3, seeded())
    assert crops.shape == (2, 3, n * n, 3)
    found = geometry.window_edges(crops.flatten(1, 2), sizes)
    limit = torch.tensor([width, height])
    assert (found[..., :2] >= -1e-6).all()
    assert (found[..., 2:] <= limit + 1e-6).all()
    for zoom in crops[..., 0, 2].flatten().tolist():
        assert low - 1e-9 <= geometry.crop_area(n, zoom) <= high + 1e-9


def test_drawn_crop_areas_are_uniform_and_use_the_whole_image() -> None:
    crops = geometry.draw_crops(sizes_of(60, 100), 2, (0.2, 0.8), 4000, seeded())[0]
    area = (2 * 2.0 ** -crops[:, 0, 2]) ** 2
    quarters = torch.quantile(area, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    torch.testing.assert_close(
        quarters, torch.tensor([0.35, 0.5, 0.65], dtype=torch.float64), rtol=0, atol=0.03
    )
    centre = crops[..., :2].mean((0, 1))
    torch.testing.assert_close(centre, torch.full_like(centre, 0.5), rtol=0, atol=0.02)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("n", [1, 3, 16])
def test_vit_grid_covers_every_pixel_and_touches_along_the_longer_side(
    height: int, width: int, n: int
) -> None:
    found = edges(geometry.vit_grid(n, sizes_of(height, width)), height, width).view(n, n, 4)
    for low, high, limit in ((0, 2, width), (1, 3, height)):
        line = found[0] if low == 0 else found[:, 0]
        assert line[0, low] <= 1e-6
        assert line[-1, high] >= limit - 1e-6
        gaps = line[1:, low] - line[:-1, high]
        assert (gaps <= 1e-6).all()
        if limit == max(height, width):
            torch.testing.assert_close(gaps, torch.zeros(n - 1).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 4, 14])
def test_vit_grid_of_a_square_is_the_plain_vit_grid(n: int) -> None:
    side = 56
    found = edges(geometry.vit_grid(n, sizes_of(side, side)), side, side)
    cut = [
        [x * side / n, y * side / n, (x + 1) * side / n, (y + 1) * side / n]
        for y in range(n)
        for x in range(n)
    ]
    torch.testing.assert_close(found, torch.tensor(cut, dtype=torch.float64))


def test_mirroring_twice_is_the_identity_and_once_flips_pixels() -> None:
    windows = torch.rand(2, 5, 3, dtype=torch.float64, generator=seeded())
    sizes, where = torch.tensor([[30, 50], [40, 20]]), torch.tensor([True, False])
    once = geometry.mirror(windows, where)
    torch.testing.assert_close(geometry.mirror(once, where), windows)
    assert torch.equal(once[1], windows[1])
    before, after = geometry.window_edges(windows, sizes), geometry.window_edges(once, sizes)
    torch.testing.assert_close(after[0, :, 0], 50 - before[0, :, 2])
    torch.testing.assert_close(after[0, :, 1::2], before[0, :, 1::2])


@law
@given(coordinates, coordinates, st.floats(-2.0, 4.0), st.integers(1, 60), st.integers(1, 60))
def test_coverage_equals_brute_force(
    x: float, y: float, zoom: float, height: int, width: int
) -> None:
    found = geometry.coverage(window(x, y, zoom), sizes_of(height, width)).item()
    left, top, right, bottom = edges(window(x, y, zoom), height, width)[0].tolist()
    area = 0.0
    for row in range(height):
        for column in range(width):
            across = min(right, column + 1) - max(left, column)
            down = min(bottom, row + 1) - max(top, row)
            area += max(across, 0.0) * max(down, 0.0)
    assert found == pytest.approx(area / ((right - left) * (bottom - top)), abs=1e-9)


@law
@given(coordinates, coordinates, zooms, st.integers(1, 20), sides, sides)
def test_cells_partition_a_window_when_they_are_a_pixel_or_more(
    x: float, y: float, zoom: float, patch: int, height: int, width: int
) -> None:
    low, high = geometry.cells(window(x, y, zoom), sizes_of(height, width), patch)
    left, top, right, bottom = edges(window(x, y, zoom), height, width)[0].tolist()
    cell = max((right - left) / patch, 1.0)
    torch.testing.assert_close(high - low, torch.full_like(low, cell), rtol=0, atol=1e-6)
    if cell > 1:
        close = {"rtol": 0.0, "atol": 1e-6}
        torch.testing.assert_close(high[..., :-1], low[..., 1:], **close)
        start, end = torch.tensor([left, top]), torch.tensor([right, bottom])
        torch.testing.assert_close(low[0, 0, :, 0], start.double(), rtol=1e-6, atol=1e-3)
        torch.testing.assert_close(high[0, 0, :, -1], end.double(), rtol=1e-6, atol=1e-3)


def test_inside_box_holds_its_edges() -> None:
    box = torch.tensor([0.25, 0.25, 0.5, 0.75])
    gaze = torch.tensor([[0.25, 0.25], [0.5, 0.75], [0.51, 0.5], [0.3, 0.2]])
    assert geometry.inside_box(gaze, box).tolist() == [True, True, False, False]


def test_uniform_draws_keep_their_bounds() -> None:
    drawn = geometry.draw_uniform((1000,), (-1.0, 3.0), seeded())
    assert drawn.dtype == torch.float64
    assert -1 <= drawn.min() < -0.9
    assert 2.9 < drawn.max() <= 3


@law
@given(zooms, st.integers(1, 32))
def test_needed_side_gives_the_finest_cells_their_pixels_and_hardly_more(
    zoom: float, patch_size: int
) -> None:
    side = geometry.needed_side(zoom, patch_size)
    assert side is not None

    def cell(m: int) -> float:
        wide = geometry.window_sides(torch.tensor([[zoom]]), sizes_of(m, m + 1))
        return float(wide) / patch_size

    assert cell(side) >= geometry.PIXELS_PER_CELL * (1 - 1e-6)
    assert side == 1 or cell(side - 1) < geometry.PIXELS_PER_CELL


@pytest.mark.parametrize("n", range(1, 40))
def test_a_grid_of_n_windows_needs_a_multiple_of_n_pixels(n: int) -> None:
    assert geometry.needed_side(math.log2(n), 16) == 16 * geometry.PIXELS_PER_CELL * n


@pytest.mark.parametrize("zoom", [math.inf, 24.0, 1e6])
def test_an_image_that_may_be_seen_from_any_distance_is_needed_whole(zoom: float) -> None:
    assert geometry.needed_side(zoom, 16) is None
