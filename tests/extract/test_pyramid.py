"""Laws of the pyramid: the same patches as reading the whole image, from a few of its pixels."""

import gc
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from torch import Tensor

import fovea
from fovea import geometry
from fovea.extract.levels import IN_MEMORY
from fovea.extract.pyramid import PyramidScene
from fovea.extract.tiles import ArraySource, Level, Pixels, TileSource

FILL = 0.25


def scene(
    images: object, name: str = "pyramid", patch: int = 16, **settings: object
) -> PyramidScene:
    extractor = fovea.create("patch_extractor", name, patch_size=patch, fill=(FILL,), **settings)
    prepared: PyramidScene = extractor.prepare(images)
    return prepared


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, channels))
    return drawn.astype(np.uint8)


def draw_windows(batch: int, count: int, low: float = -3, high: float = 12) -> Tensor:
    """Windows of which a good part lies over the border or outside."""
    seeded = torch.Generator().manual_seed(0)
    drawn = torch.rand(batch, count, 3, dtype=torch.float64, generator=seeded)
    return drawn * torch.tensor([2.0, 2.0, high - low]) + torch.tensor([-0.5, -0.5, low])


def glimpse(sizes: Tensor, gaze: tuple[float, float] = (0.4, 0.6)) -> Tensor:
    windows: Tensor = fovea.create("context_builder", "foveal").windows(
        torch.tensor([gaze], dtype=torch.float64).expand(len(sizes), 2), sizes, None
    )
    return windows


class Counting(TileSource):
    """An array cut into tiles, which notes every tile that is read."""

    def __init__(self, *arrays: Pixels, tile: tuple[int, int] | None = (64, 64)):
        self.inner = ArraySource(*arrays)
        self.name, self.channels, self.dtype = "tiles", self.inner.channels, self.inner.dtype
        self.levels = tuple(Level(*array.shape[:2], tile) for array in arrays)
        self.seen: list[tuple[int, int, int, int, int]] = []

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        self.seen.append((level, top, left, bottom, right))
        return self.inner.read(level, top, left, bottom, right)


@pytest.mark.parametrize("patch", [1, 4, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (300, 500), (17, 23), (64, 64), (40, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_reading_at_full_resolution_equals_resize(
    patch: int, size: tuple[int, int], channels: int
) -> None:
    image, most = noise(*size, channels), 3.99 * patch  # of the image's pixels along a window
    low = float(np.log2(min(size) / most))
    windows = draw_windows(1, 60, low, low + 12)
    found = scene(image, patch=patch).read(windows)
    torch.testing.assert_close(
        found, scene(image, "resize", patch).read(windows), rtol=0, atol=1e-5
    )


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.tuples(st.floats(-1.0, 2.0), st.floats(-1.0, 2.0), st.floats(-64.0, 30.0)),
    st.integers(1, 7),
)
def test_a_cell_has_the_fill_colour_where_resize_has_it_and_else_the_images(
    height: int, width: int, window: tuple[float, float, float], patch: int
) -> None:
    image = np.full((height, width, 1), 200, np.uint8)
    windows = torch.tensor([[window]], dtype=torch.float64)
    found, wanted = scene(image, patch=patch), scene(image, "resize", patch)
    torch.testing.assert_close(found.read(windows), wanted.read(windows), rtol=0, atol=1e-5)


PHOTOS = ["astronaut", "coffee", "chelsea", "rocket"]


def errors(photo: str, **settings: object) -> tuple[Tensor, Tensor]:
    """Difference from resize, of 255, where a coarser level is read; inside, and cut cells."""
    image = getattr(data, photo)()
    windows = torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(0)).double()
    windows = windows * torch.tensor([1.0, 1.0, 3.0])
    read = scene(image, patch=8, **settings)
    off = (read.read(windows) - scene(image, "resize", 8).read(windows))[0] * 255
    low, high = geometry.cells(windows, read.sizes, 8)
    within = ((low >= 0) & (high <= read.sizes.flip(1)[:, None, :, None]))[0]
    inside = within[:, 1, :, None] & within[:, 0, None, :]
    return off.movedim(1, -1)[inside], off.movedim(1, -1)[~inside]


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize(("per_cell", "rms", "most"), [(2.0, 2.5, 30.0), (4.0, 1.0, 15.0)])
def test_coarser_levels_are_off_by_no_more_than_is_stated(
    photo: str, per_cell: float, rms: float, most: float
) -> None:
    inside, cut = errors(photo, pixels_per_cell=per_cell)
    assert inside.square().mean().sqrt() < rms
    assert inside.abs().max() < most
    assert inside.mean().abs() < 0.1
    assert cut.square().mean().sqrt() < 2 * rms


def test_a_level_one_coarser_would_break_the_bounds() -> None:
    assert min(errors(photo, pixels_per_cell=1.0)[0].square().mean() for photo in PHOTOS) > 2.5**2


def test_levels_of_odd_sizes_end_at_the_images_border() -> None:
    ramp = np.arange(1001, dtype=np.uint16)[None, :, None] * 64 * np.ones((777, 1, 1), np.uint16)
    windows = torch.tensor([[[0.5, 0.5, zoom] for zoom in (-0.4, 0.0, 0.7, 1.5)]]).double()
    found = scene(ramp, patch=4).read(windows)
    eight = scene((ramp // 257).astype(np.uint8), "resize", 4).read(windows)
    torch.testing.assert_close(found, eight, rtol=0, atol=1.5 / 255)
    inside = (found - FILL).abs() > 1e-6
    slope = found.diff(dim=-1)[inside.all(-1)][:, 1:-1]
    torch.testing.assert_close(slope, slope[..., :1].expand_as(slope), rtol=1e-3, atol=1e-4)


def test_a_level_is_the_coarsest_that_has_two_pixels_per_cell() -> None:
    full = noise(2048, 2048, 1)
    source = Counting(full, full[::4, ::4], full[::16, ::16], tile=None)
    read = scene(source, patch=16)
    for cell, level in [(1.5, 0), (7.9, 0), (8.1, 1), (31.0, 1), (32.1, 2), (63.0, 2)]:
        zoom = np.log2(2048 / 16 / cell)
        source.seen.clear()
        read.read(torch.tensor([[[0.5, 0.5, zoom]]]).double())
        (found,) = source.seen
        assert found[0] == level
        assert found[3] - found[1] <= np.ceil(16 * cell / 4**level) + 1


def test_levels_after_a_gap_are_built_anew() -> None:
    full = noise(2048, 2048, 1)
    read = scene(Counting(full, full[::4, ::4], np.zeros((64, 64, 1), np.uint8)), patch=4)
    assert [scale[0] for scale in read.pyramids[0].scales] == [1, 4, 8, 16, 32]
    assert read.read(torch.tensor([[[0.5, 0.5, 0.0]]]).double()).min() > 0.4


def test_only_the_tiles_under_the_windows_are_read_and_each_once() -> None:
    full = noise(4096, 4096, 1)
    source = Counting(full, full[::4, ::4], full[::16, ::16])
    read = scene(source)
    source.seen.clear()  # of what was read to build the coarser levels
    windows = torch.tensor([[[0.5, 0.5, 7.0], [0.501, 0.5, 7.0], [0.5, 0.5, 4.0]]]).double()
    read.read(windows)
    assert len(source.seen) == len(set(source.seen)) <= 4 + 9
    for level, top, left, bottom, right in source.seen:
        assert (bottom - top, right - left) == (64, 64)
        assert abs((top + 32) * 4**level - 2048) < 300
        assert abs((left + 32) * 4**level - 2048) < 300
    before = len(source.seen)
    read.read(windows)
    assert len(source.seen) == before


def test_a_cache_without_room_reads_the_same_patches_again() -> None:
    full = noise(512, 512, 3)
    kept, fresh = Counting(full), Counting(full)
    windows = draw_windows(1, 20, 2, 5)
    roomy, bare = scene(kept), scene(fresh, cache_mb=0)
    kept.seen.clear(), fresh.seen.clear()
    for _ in range(2):
        assert torch.equal(roomy.read(windows), bare.read(windows))
    assert len(kept.seen) == len(set(kept.seen)) < len(fresh.seen)


def test_a_mixed_batch_equals_single_images_bit_for_bit(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", noise(700, 900))
    tifffile.imwrite(tmp_path / "tiled.tif", noise(333, 555), tile=(64, 64), photometric="rgb")
    Image.fromarray(noise(50, 60)).save(tmp_path / "photo.png")
    images: list[object] = [
        str(tmp_path / "map.npy"),
        tmp_path / "tiled.tif",
        str(tmp_path / "photo.png"),
        np.load(tmp_path / "map.npy", mmap_mode="r")[100:, :300],
        noise(1, 1),
        torch.from_numpy(noise(40, 31)).movedim(2, 0),
        Image.fromarray(noise(33, 22)),
        Counting(noise(200, 300)),
        noise(120, 90, 1),
        noise(120, 90).astype(np.uint16) * 200,
    ]
    windows = draw_windows(len(images), 70)  # more than one chunk
    together = scene(images, patch=4, channels=3).read(windows)
    assert together.dtype == torch.float32
    for i, image in enumerate(images):
        alone = scene(image, patch=4, channels=3).read(windows[i : i + 1])
        assert torch.equal(together[i], alone[0]), i


def test_a_window_reads_the_same_whichever_windows_come_with_it() -> None:
    read, windows = scene(noise(900, 700)), draw_windows(1, 50)
    together = read.read(windows)
    for i in range(50):
        assert torch.equal(together[:, i : i + 1], read.read(windows[:, i : i + 1]))


def test_sixteen_bits_are_kept() -> None:
    image = np.random.default_rng(0).integers(0, 2**16, (90, 80, 1)).astype(np.uint16)
    patch = scene(image, patch=16).read(torch.tensor([[[8 / 80, 8 / 90, np.log2(5.0)]]]).double())
    wanted = torch.from_numpy(image[:16, :16, 0].astype(np.float32)) / 65535
    torch.testing.assert_close(patch[0, 0, 0], wanted, rtol=0, atol=1e-6)


def test_grey_is_repeated_where_colour_is_wanted() -> None:
    image, windows = noise(90, 80, 1), draw_windows(1, 20)
    three, one = scene(image, channels=3).read(windows), scene(image).read(windows)
    torch.testing.assert_close(three, one.expand(-1, -1, 3, -1, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "channels", "message"),
    [
        ([], None, "images is empty"),
        ([noise(9, 9), noise(9, 9, 1)], None, r"images\[1\]: 1 channels, but images\[0\] has 3"),
        ([noise(9, 9, 1), noise(9, 9)], 1, r"images\[1\]: 3 channels, expected 1"),
        (noise(9, 9, 4), 3, r"images\[0\]: 4 channels, expected 3"),
        (np.zeros((9, 9, 3)), None, r"images\[0\]: .* uint8 or uint16, got float64"),
        (np.zeros((3, 90, 90), np.uint8), None, r"images\[0\]: expected \[H, W, C\]"),
        (np.zeros((0, 9, 3), np.uint8), None, r"images\[0\]: .* got shape \(0, 9, 3\)"),
        (
            [noise(9, 9), torch.zeros(3, 9, 9)],
            None,
            r"images\[1\]: .* uint8 or uint16, got float32",
        ),
        ([noise(9, 9), 7], None, r"images\[1\]: expected a PIL image.* got int"),
    ],
)
def test_images_that_cannot_be_read_are_refused_by_name(
    images: object, channels: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scene(images, channels=channels)


def test_fill_must_fit_the_channels() -> None:
    extractor = fovea.create("patch_extractor", "pyramid", fill=(0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="fill has 3 values, but the images have 1 channels"):
        extractor.prepare(noise(9, 9, 1))


@pytest.mark.parametrize("x", [-3.0, 4.0, 1e30])
def test_a_window_outside_reads_nothing_and_has_the_fill_colour(x: float) -> None:
    source = Counting(noise(50, 50), tile=None)
    patches = scene(source).read(torch.tensor([[[x, 0.5, 1.0]]]).double())
    assert torch.equal(patches, torch.full_like(patches, FILL))
    assert source.seen == []


def test_no_windows_give_no_patches_and_wrong_ones_are_refused() -> None:
    read = scene([noise(8, 8), noise(5, 9)])
    assert read.read(torch.zeros(2, 0, 3)).shape == (2, 0, 3, 16, 16)
    with pytest.raises(ValueError, match="windows are for 3 images, the scene has 2"):
        read.read(torch.zeros(3, 5, 3))
    with pytest.raises(ValueError, match="not all finite"):
        read.read(torch.full((2, 1, 3), np.nan))


def test_autocast_changes_nothing() -> None:
    read, windows = scene(noise(100, 120)), draw_windows(1, 20)
    plain = read.read(windows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(plain, read.read(windows))


def scratch_files() -> list[str]:
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return [line for line in maps if "fovea-" in line or "/#" in line]


def test_the_scratch_file_is_gone_with_the_scene(tmp_path: Path) -> None:
    side = int((4 * IN_MEMORY) ** 0.5)
    image = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, (side, side, 1))
    folder = tmp_path / "scratch"
    folder.mkdir()
    read = scene(image, scratch_dir=str(folder))
    before = len(scratch_files())
    assert before > 0
    assert list(folder.iterdir()) == []  # it has no name even while it is used
    assert read.read(glimpse(read.sizes)).shape == (1, 30, 1, 16, 16)
    del read
    gc.collect()
    assert len(scratch_files()) == before - 1
    with pytest.raises(OSError, match=r"levels take 8\d MB in .*; set scratch_dir to"):
        scene(image, scratch_dir=str(tmp_path / "missing"))


GIGAPIXEL = """
import sys, threading, time
import torch
import fovea

torch.set_num_threads(1)

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1e3

def glimpses(scene):
    context, spent = fovea.create("context_builder", "foveal"), []
    for i in range(40):
        gaze = torch.rand(1, 2, generator=torch.Generator().manual_seed(i)).double()
        windows = context.windows(gaze, scene.sizes, None)
        start = time.thread_time()
        scene.read(windows)
        spent.append(time.thread_time() - start)
    return sorted(spent)[20] * 1e3

def watch():
    while not done.wait(0.005):
        most[0] = max(most[0], anonymous())

extractor = fovea.create("patch_extractor", "pyramid")
small = extractor.prepare(torch.zeros(1, 448, 448, dtype=torch.uint8))
glimpses(small)
before, most, done = anonymous(), [0.0], threading.Event()
watcher = threading.Thread(target=watch)
watcher.start()
large = extractor.prepare(sys.argv[1])
times = [(glimpses(large), glimpses(small)) for _ in range(3)]
done.set()
watcher.join()
print(most[0] - before, min(large / small for large, small in times))
"""


def test_a_huge_map_costs_little_memory_and_as_much_time_as_a_small_image(tmp_path: Path) -> None:
    file = tmp_path / "huge.npy"
    np.lib.format.open_memmap(file, "w+", np.uint8, (16384, 16384, 1))  # sparse: no bytes on disk
    command = [sys.executable, "-c", GIGAPIXEL, str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    megabytes, ratio = map(float, printed.split())
    assert megabytes < 150
    assert ratio < 3


def test_a_file_source_is_pickled_by_its_path(tmp_path: Path) -> None:
    from fovea.extract.tiff import TiffSource

    tifffile.imwrite(tmp_path / "a.tif", noise(64, 64), tile=(32, 32), photometric="rgb")
    source = TiffSource(tmp_path / "a.tif")
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.read(0, 0, 32, 32, 64), source.read(0, 0, 32, 32, 64))
