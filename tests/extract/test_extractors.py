"""Laws of reading patches: every extractor's patch is the area average that a loop computes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import fovea
from fovea.extract.integral import IntegralScene, build_table
from fovea.interfaces import PatchExtractor

law = settings(derandomize=True, deadline=None, max_examples=50)
FILL = 0.25
SIZES = [(1, 1), (1, 5000), (300, 5000), (17, 23), (64, 64), (40, 3)]
EXACT = ("integral", "resize")
Image = NDArray[np.uint8]


def extractor(name: str, patch: int = 4, **settings: object) -> PatchExtractor:
    built: PatchExtractor = fovea.create(
        "patch_extractor", name, patch_size=patch, fill=(FILL,), **settings
    )
    return built


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Image:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    return drawn.astype(np.uint8)


def draw_windows(
    batch: int, count: int, seed: int = 0, low: float = -3, high: float = 12
) -> Tensor:
    drawn = torch.rand(
        batch, count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return drawn * torch.tensor([2.0, 2.0, high - low]) + torch.tensor([-0.5, -0.5, low])


def overlap(low: float, high: float, size: int) -> tuple[int, int, NDArray[np.float64]]:
    """Length of [low, high] over each pixel that it touches, one pixel at a time."""
    first, last = max(math.floor(low), 0), min(math.ceil(high), size)
    lengths = [min(high, p + 1) - max(low, p) for p in range(first, last)]
    return first, first + len(lengths), np.maximum(np.array(lengths, dtype=np.float64), 0)


def cell_mean(image: Image, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """Average the pixels under one cell (left, top, right, bottom), by their covered area."""
    height, width, channels = image.shape
    x0, x1, across = overlap(box[0], box[2], width)
    y0, y1, down = overlap(box[1], box[3], height)
    area = across.sum() * down.sum()
    if area <= 0:
        return np.full(channels, FILL)
    pixels = image[y0:y1, x0:x1].astype(np.float64) / 255
    weighted = pixels * down[:, None, None] * across[None, :, None]
    mean: NDArray[np.float64] = weighted.sum((0, 1)) / area
    return mean


def brute_force(image: Image, window: Tensor, patch: int, nearest: bool = False) -> Tensor:
    """Read one window [3] -> [C, P, P], from the definition and without fovea.geometry."""
    x, y, zoom = window.tolist()
    height, width, channels = image.shape
    pitch = min(height, width) * 2.0**-zoom / patch
    half = max(pitch, 1.0) / 2
    out = np.empty((channels, patch, patch))
    for row in range(patch):
        for column in range(patch):
            middle_x = x * width + (column - (patch - 1) / 2) * pitch
            middle_y = y * height + (row - (patch - 1) / 2) * pitch
            box = (middle_x - half, middle_y - half, middle_x + half, middle_y + half)
            if nearest:
                box = tuple(math.floor(edge + 0.5 + 1e-6) for edge in box)  # type: ignore[assignment]
            out[:, row, column] = cell_mean(image, box)
    return torch.from_numpy(out).float()


def assert_reads(
    name: str, image: Image, windows: Tensor, patch: int = 4, **settings: object
) -> None:
    found = extractor(name, patch, **settings).prepare(image).read(windows[None])[0]
    nearest = settings.get("mode") == "nearest"
    wanted = torch.stack([brute_force(image, window, patch, nearest) for window in windows])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXACT)
def test_exact_reading_equals_the_area_average(
    name: str, channels: int, size: tuple[int, int]
) -> None:
    assert_reads(name, noise(*size, channels), draw_windows(1, 40)[0])


@law
@given(
    st.sampled_from(EXACT),
    st.integers(1, 40),
    st.integers(1, 40),
    st.tuples(st.floats(-1.0, 2.0), st.floats(-1.0, 2.0), st.floats(-3.0, 12.0)),
    st.integers(1, 7),
)
def test_exact_reading_equals_the_area_average_for_any_window(
    name: str, height: int, width: int, window: tuple[float, float, float], patch: int
) -> None:
    windows = torch.tensor([window], dtype=torch.float64)
    assert_reads(name, noise(height, width, 1), windows, patch)


@pytest.mark.parametrize("size", SIZES)
def test_nearest_reading_averages_rounded_cells_of_at_least_one_pixel(
    size: tuple[int, int],
) -> None:
    assert_reads("integral", noise(*size), draw_windows(1, 40)[0], mode="nearest")


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("x", [-3.0, 4.0])
def test_a_window_outside_has_the_fill_colour(name: str, x: float) -> None:
    windows = torch.tensor([[[x, 0.5, 0.0]]])
    patches = extractor(name).prepare(noise(20, 20)).read(windows)
    assert torch.equal(patches, torch.full_like(patches, FILL))


@pytest.mark.parametrize("name", EXACT)
def test_fill_has_one_colour_per_channel(name: str) -> None:
    colours = (0.1, 0.2, 0.3)
    built = fovea.create("patch_extractor", name, patch_size=2, fill=colours)
    patch = built.prepare(noise(9, 9)).read(torch.tensor([[[5.0, 5.0, 0.0]]]))[0, 0]
    torch.testing.assert_close(patch, torch.tensor(colours)[:, None, None].expand(3, 2, 2))
    with pytest.raises(ValueError, match="fill has 3 values, but the images have 1 channels"):
        built.prepare(noise(9, 9, 1))


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("zoom", [2.0, 3.5, 6.0])
def test_exact_enlarging_equals_bilinear_grid_sample(name: str, zoom: float) -> None:
    image, patch, side = noise(64, 64), 16, 64 * 2.0**-zoom
    found = extractor(name, patch).prepare(image).read(torch.tensor([[[0.53, 0.47, zoom]]]))[0]
    step = (torch.arange(patch, dtype=torch.float64) - (patch - 1) / 2) * side / patch
    y, x = torch.meshgrid(0.47 * 64 + step, 0.53 * 64 + step, indexing="ij")
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255
    places = torch.stack([x, y], -1)[None] / 64 * 2 - 1
    wanted = F.grid_sample(pixels, places, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, wanted.float(), rtol=0, atol=1e-5)


def test_sums_beyond_the_wrap_are_exact() -> None:
    image = np.full((3000, 3000, 1), 255, dtype=np.uint8)  # sums to 2.3e9
    image[2990:, 2990:] = noise(10, 10, 1)
    windows = torch.tensor([[0.999, 0.999, 8.0], [0.5, 0.5, 0.0], [0.9, 0.9, 2.0]]).double()
    assert_reads("integral", image, windows, patch=4)


def test_a_table_shifted_across_the_wrap_reads_the_same() -> None:
    scene = extractor("integral").prepare(noise(50, 60))
    assert isinstance(scene, IntegralScene)
    windows = draw_windows(1, 200)
    for shift in (2**31 - 1000, -(2**31), 2**31 - 150_000):
        shifted = (scene.table.long() + shift + 2**31) % 2**32 - 2**31
        moved = IntegralScene(
            scene.sizes, shifted.int(), scene.offsets, scene.fill, scene.patch_size, scene.mode
        )
        assert torch.equal(moved.read(windows), scene.read(windows))


def test_a_table_entry_is_the_sum_above_and_left_of_it() -> None:
    image = noise(7, 5)
    table = torch.empty(8 * 6, 3, dtype=torch.int32)
    build_table(image, table)
    for y in range(8):
        for x in range(6):
            wanted = image[:y, :x].astype(np.int64).sum((0, 1)).tolist()
            assert table.view(8, 6, 3)[y, x].tolist() == wanted


def test_a_cell_whose_sum_may_wrap_is_refused() -> None:
    side = 2**13
    scene = IntegralScene(
        torch.tensor([[side, side]]),
        torch.zeros(1, 1, dtype=torch.int32).expand((side + 1) ** 2, 1),
        torch.tensor([0]),
        torch.tensor([FILL]),
        2,
        "exact",
    )
    with pytest.raises(ValueError, match=r"a cell of 16777216 pixels .* larger patch_size than 2"):
        scene.read(torch.tensor([[[0.5, 0.5, 0.0]]]))
    assert scene.read(torch.tensor([[[0.5, 0.5, 1.0]]])).eq(0).all()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (torch.full((2, 1, 3), math.nan), r"windows .*gaze.* not all finite"),
        (torch.full((2, 1, 3), math.inf), r"windows .*gaze.* not all finite"),
        (torch.tensor([[[0.5, 0.5, -2000.0]]]).expand(2, 1, 3), r"zoom"),
        (torch.zeros(2, 3), r"windows must be \[B, N, 3\], got \[2, 3\]"),
        (torch.zeros(2, 5, 2), r"windows must be \[B, N, 3\], got \[2, 5, 2\]"),
        (torch.zeros(3, 5, 3), r"windows are for 3 images, the scene has 2"),
    ],
)
def test_windows_that_cannot_be_read_are_refused_by_name(
    name: str, windows: Tensor, message: str
) -> None:
    scene = extractor(name).prepare([noise(8, 8), noise(5, 9)])
    with pytest.raises(ValueError, match=message):
        scene.read(windows)


@pytest.mark.parametrize("name", EXACT)
def test_no_windows_give_no_patches(name: str) -> None:
    assert extractor(name).prepare(noise(8, 8)).read(torch.zeros(1, 0, 3)).shape == (1, 0, 3, 4, 4)


@pytest.mark.parametrize("name", EXACT)
def test_a_batch_of_mixed_sizes_equals_single_images_bit_for_bit(name: str) -> None:
    images = [noise(*size, seed=i) for i, size in enumerate([(30, 50), (1, 1), (90, 20), (64, 64)])]
    windows = draw_windows(4, 150 if name == "integral" else 9)  # 600: more than one chunk
    reader = extractor(name)
    together = reader.prepare(images).read(windows)
    for i, image in enumerate(images):
        assert torch.equal(together[i], reader.prepare(image).read(windows[i : i + 1])[0])


@pytest.mark.parametrize("name", EXACT)
def test_autocast_changes_nothing(name: str) -> None:
    scene, windows = extractor(name).prepare(noise(100, 120)), draw_windows(1, 20)
    plain = scene.read(windows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = scene.read(windows)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


@pytest.mark.parametrize("name", EXACT)
def test_a_mirrored_image_gives_mirrored_patches(name: str) -> None:
    image, windows = noise(37, 53), draw_windows(1, 80)
    mirrored = windows.clone()
    mirrored[..., 0] = 1 - windows[..., 0]
    plain = extractor(name).prepare(image).read(windows)
    flipped = extractor(name).prepare(np.ascontiguousarray(image[:, ::-1])).read(mirrored)
    torch.testing.assert_close(flipped, plain.flip(-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", EXACT)
def test_patches_stay_within_the_pixels_they_average(name: str) -> None:
    image = np.full((50, 70, 3), 200, dtype=np.uint8)
    patches = extractor(name).prepare(image).read(draw_windows(1, 40, low=0, high=8))
    grey = torch.tensor(200 / 255)
    off = torch.minimum((patches - grey).abs(), (patches - FILL).abs())
    assert off.max() < 1e-5
