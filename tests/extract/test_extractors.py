"""Laws of reading patches: every extractor's patch is the area average that a loop computes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import EXACT, FILL, INTEGRAL, assert_reads, draw_windows, extractor, noise
from torch import Tensor

import fovea

law = settings(derandomize=True, deadline=None, max_examples=50)
SIZES = [(1, 1), (1, 5000), (300, 5000), (17, 23), (64, 64), (40, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EXACT)
def test_exact_reading_equals_the_area_average(
    name: str, channels: int, size: tuple[int, int]
) -> None:
    assert_reads(name, noise(*size, channels), draw_windows(1, 40)[0])


@pytest.mark.parametrize("channels", [2, 4, 13])
@pytest.mark.parametrize("name", EXACT)
def test_any_number_of_channels_is_read(name: str, channels: int) -> None:
    assert_reads(name, noise(20, 30, channels), draw_windows(1, 10)[0])


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
@pytest.mark.parametrize("name", INTEGRAL)
def test_nearest_reading_averages_rounded_cells_of_at_least_one_pixel(
    name: str, size: tuple[int, int]
) -> None:
    assert_reads(name, noise(*size), draw_windows(1, 40)[0], mode="nearest")


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("x", [-3.0, 4.0])
def test_a_window_outside_has_the_fill_colour(name: str, x: float) -> None:
    windows = torch.tensor([[[x, 0.5, 0.0]]])
    patches = extractor(name).prepare(noise(20, 20)).read(windows)
    assert torch.equal(patches, torch.full_like(patches, FILL))


@pytest.mark.parametrize("name", EXACT)
def test_fill_has_one_colour_per_channel(name: str) -> None:
    colours = (0.1, 0.2, 0.3)
    built = fovea.create("patch_extractor", name.partition("/")[0], patch_size=2, fill=colours)
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
    windows = draw_windows(4, 9 if name == "resize" else 150)  # 600: chunks and threads
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
