"""Laws of the files that are read in parts, and of the levels that are built for them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data
from torch import Tensor

import fovea
from fovea.decoding import BadImage
from fovea.extract import files
from fovea.extract.files import open_source
from fovea.extract.levels import halve
from fovea.extract.slides import OpenSlideSource
from fovea.extract.tiff import TiffSource
from fovea.extract.tiles import ArraySource, CachedSource, Pixels, TileCache, TileSource, over_white
from fovea.extract.vips import VipsSource

ROCKET: Pixels = np.tile(data.rocket()[:400, :640], (2, 2, 1))


def whole(source: TileSource, level: int = 0) -> Pixels:
    """Read a level by its tiles."""
    size = source.levels[level]
    return CachedSource(source, TileCache(0)).read(level, 0, 0, size.height, size.width)


def read(image: object, windows: Tensor, **settings: object) -> Tensor:
    extractor = fovea.create("patch_extractor", "pyramid", **settings)
    patches: Tensor = extractor.prepare(image).read(windows)
    return patches


def some_windows() -> Tensor:
    seeded = torch.Generator().manual_seed(0)
    drawn = torch.rand(1, 40, 3, dtype=torch.float64, generator=seeded)
    return drawn * torch.tensor([1.2, 1.2, 7.0]) - torch.tensor([0.1, 0.1, 0.0])


def levels(image: Pixels, count: int) -> list[Pixels]:
    """Halve an image so many times, as another program would: rounded to even."""
    found = [image]
    for _ in range(count):
        a = found[-1].astype(np.float64)
        mean = (a[0::2, 0::2] + a[1::2, 0::2] + a[0::2, 1::2] + a[1::2, 1::2]) / 4
        found.append(np.rint(mean).astype(image.dtype))
    return found


def write_pyramid(file: Path, image: Pixels, subifds: bool = False, **settings: object) -> None:
    photometric = "rgb" if image.shape[2] == 3 else "minisblack"
    first, *coarser = levels(image, 2)
    with tifffile.TiffWriter(file) as tiff:
        shared = {"tile": (128, 128), "photometric": photometric, **settings}
        tiff.write(first, subifds=len(coarser) if subifds else 0, **shared)
        for level in coarser:
            tiff.write(level, subfiletype=1, **shared)


@pytest.mark.parametrize("subifds", [False, True])
@pytest.mark.parametrize("compression", ["deflate", "lzw", None])
def test_a_tiff_pyramid_is_read_as_the_image_it_shows(
    tmp_path: Path, subifds: bool, compression: str | None
) -> None:
    write_pyramid(tmp_path / "a.tif", ROCKET, subifds, compression=compression)
    source = open_source(tmp_path / "a.tif")
    assert isinstance(source, TiffSource)
    assert [(level.height, level.width) for level in source.levels] == [
        (800, 1280),
        (400, 640),
        (200, 320),
    ]
    assert np.array_equal(whole(source), ROCKET)
    found, wanted = (read(image, some_windows()) for image in (tmp_path / "a.tif", ROCKET))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2 / 255)  # levels are rounded twice


LAYOUTS: dict[str, tuple[Pixels, dict[str, object]]] = {
    "plain": (ROCKET, {}),
    "tiled": (ROCKET, {"tile": (64, 80), "compression": "deflate"}),
    "strips": (ROCKET, {"rowsperstrip": 37, "compression": "lzw", "predictor": True}),
    "one strip": (ROCKET, {"rowsperstrip": 800, "compression": "packbits"}),
    "grey": (ROCKET[..., :1], {"tile": (64, 64)}),
    "sixteen": (ROCKET.astype(np.uint16) * 257, {"tile": (64, 64), "compression": "deflate"}),
    "big-endian": (ROCKET.astype(np.uint16) * 257, {"byteorder": ">"}),
    "big-endian tiles": (ROCKET.astype(np.uint16) * 3, {"byteorder": ">", "tile": (64, 64)}),
    "large": (ROCKET, {"bigtiff": True, "tile": (64, 64)}),
    "planes": (ROCKET, {"planarconfig": "separate", "tile": (64, 80), "compression": "deflate"}),
    "mapped planes": (ROCKET, {"planarconfig": "separate"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_a_tiff_holds_the_same_pixels(tmp_path: Path, layout: str) -> None:
    image, settings = LAYOUTS[layout]
    stored = np.moveaxis(image, 2, 0) if "planarconfig" in settings else image
    photometric = "rgb" if image.shape[2] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", stored.squeeze(), photometric=photometric, **settings)
    source = open_source(str(tmp_path / "a.tif"))
    assert isinstance(source, TiffSource)
    assert source.dtype == image.dtype
    assert np.array_equal(whole(source), image)
    found, wanted = (read(one, some_windows()) for one in (tmp_path / "a.tif", image))
    assert torch.equal(found, wanted)


def test_jpeg_tiles_are_decoded_to_rgb(tmp_path: Path) -> None:
    settings = {"tile": (128, 128), "compression": "jpeg", "photometric": "rgb"}
    tifffile.imwrite(tmp_path / "a.tif", ROCKET, **settings, compressionargs={"level": 95})
    off = whole(open_source(tmp_path / "a.tif")).astype(float) - ROCKET
    assert (off**2).mean() ** 0.5 < 6  # of which chroma at half resolution is the most


def test_white_is_zero_reads_inverted_and_opacity_lies_over_white(tmp_path: Path) -> None:
    grey = np.ascontiguousarray(ROCKET[..., 0])
    tifffile.imwrite(tmp_path / "inverted.tif", 255 - grey, photometric="miniswhite")
    assert np.array_equal(whole(open_source(tmp_path / "inverted.tif"))[..., 0], grey)
    alpha = np.zeros((800, 1280, 1), np.uint8)
    alpha[:, :640] = 255
    rgba = np.concatenate([ROCKET, alpha], 2)
    for file, kind in (("a.tif", "unassalpha"), ("b.tif", "assocalpha")):
        stored = rgba if kind == "unassalpha" else np.where(alpha > 0, rgba, 0)
        settings = {"photometric": "rgb", "extrasamples": [kind], "tile": (64, 64)}
        tifffile.imwrite(tmp_path / file, stored, **settings)
        shown = whole(open_source(tmp_path / file))
        assert np.array_equal(shown[:, :640], ROCKET[:, :640])
        assert (shown[:, 640:] == 255).all()


def test_half_opaque_pixels_are_mixed_with_white() -> None:
    pixels = np.array([[[100, 0, 200, 128], [7, 8, 9, 255]]], np.uint8)
    assert over_white(pixels).tolist() == [[[177, 127, 227], [7, 8, 9]]]
    assert over_white(pixels, premultiplied=True).tolist() == [[[227, 127, 255], [7, 8, 9]]]


def test_openslide_reads_a_tiled_tiff(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.tif", ROCKET, compression="deflate")
    source = OpenSlideSource(tmp_path / "a.tif")
    assert len(source.levels) == 3
    assert source.levels[0].tile == (128, 128)
    assert np.array_equal(whole(source), ROCKET)
    assert np.array_equal(whole(source, 1), levels(ROCKET, 1)[1])
    (tmp_path / "a.tif").rename(tmp_path / "a.svs")
    assert isinstance(open_source(tmp_path / "a.svs"), OpenSlideSource)
    found, wanted = (read(image, some_windows()) for image in (tmp_path / "a.svs", ROCKET))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2 / 255)


def test_large_pictures_are_decoded_by_libvips_as_small_ones_are_by_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(data.astronaut()).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(data.astronaut()).save(tmp_path / "a.png")
    Image.fromarray(ROCKET[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.concatenate([ROCKET, ROCKET[..., :1]], 2)).save(tmp_path / "rgba.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(ROCKET).save(tmp_path / "turned.jpg", exif=turned, quality=95)
    for file in sorted(tmp_path.iterdir()):
        for channels in (1, 3):
            pillow = read(file, some_windows(), channels=channels)
            with monkeypatch.context() as patched:
                patched.setattr(files, "WHOLE", 1000)
                assert isinstance(open_source(file), VipsSource)
                vips = read(file, some_windows(), channels=channels)
            off = (vips - pillow).abs() * 255
            assert off.max() < 1.01  # where a half is rounded otherwise
            assert off.mean() < 0.01


def test_a_picture_that_is_read_once_becomes_levels_without_loss(tmp_path: Path) -> None:
    Image.fromarray(ROCKET[:777, :1001]).save(tmp_path / "a.png")
    extractor = fovea.create("patch_extractor", "pyramid")
    once = extractor.prepare(VipsSource(tmp_path / "a.png")).read(some_windows())
    assert torch.equal(once, extractor.prepare(ROCKET[:777, :1001]).read(some_windows()))
    Image.fromarray(ROCKET[:9, :7]).save(tmp_path / "tiny.png")
    once = extractor.prepare(VipsSource(tmp_path / "tiny.png")).read(some_windows())
    assert torch.equal(once, extractor.prepare(ROCKET[:9, :7]).read(some_windows()))


def damaged(file: Path) -> None:
    """Cut a file to two thirds: its header stays whole."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 2 // 3])


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "tiled.tif", "a.svs", "a.png", "a.jpg"])
def test_a_truncated_file_is_refused_in_one_sentence(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WHOLE", 1000)  # so that libvips reads the pictures
    file = tmp_path / name
    if name.endswith(".npy"):
        np.save(file, ROCKET)
    elif name == "a.tif":
        tifffile.imwrite(file, ROCKET, photometric="rgb")
    elif name == "tiled.tif":
        tifffile.imwrite(file, ROCKET, photometric="rgb", tile=(64, 64), compression="deflate")
    elif name == "a.svs":
        write_pyramid(file, ROCKET, compression="deflate")
    else:
        Image.fromarray(ROCKET).save(file)
    damaged(file)
    with pytest.raises(BadImage, match=rf"{name}' .*") as caught:
        read(file, some_windows())
    assert "\n" not in str(caught.value)


def test_damage_that_shows_only_in_a_tile_is_reported_when_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    write_pyramid(file, ROCKET, compression="deflate")
    with tifffile.TiffFile(file) as tiff:
        place = tiff.pages[0].dataoffsets[0]
    content = bytearray(file.read_bytes())
    content[place : place + 100] = b"\xff" * 100
    file.write_bytes(content)
    scene = fovea.create("patch_extractor", "pyramid").prepare(str(file))
    scene.read(torch.tensor([[[0.9, 0.9, 5.0]]]))
    for _ in range(2):
        with pytest.raises(BadImage, match=r"a.tif' cannot be used: "):
            scene.read(torch.tensor([[[0.02, 0.02, 5.0]]]))


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".svs", ".mrxs", ".png"])
@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0\x08\0\0\0\xff\xff\xff\xff"])
def test_what_is_no_image_is_refused_in_one_sentence(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(content)
    with pytest.raises(BadImage, match=rf"a{suffix}' cannot be used: [^\n]+$"):
        open_source(file)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"none.svs' cannot be used: No such file or directory"):
        open_source(tmp_path / "none.svs")
    with pytest.raises(BadImage, match="cannot be used: Is a directory"):
        open_source(tmp_path)


STRANGE: list[tuple[Pixels, dict[str, object], str]] = [
    (np.zeros((9, 9), np.float32), {}, "32 bits, float32"),
    (
        np.zeros((9, 9), np.uint8),
        {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)},
        "PALETTE",
    ),
    (
        np.zeros((5, 9, 9), np.uint8),
        {"ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"},
        "axes CYX",
    ),
]


@pytest.mark.parametrize(("image", "settings", "message"), STRANGE)
def test_pixels_that_are_not_brightness_or_colour_are_refused(
    tmp_path: Path, image: Pixels, settings: dict[str, object], message: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", image, **settings)
    with pytest.raises(BadImage, match=message):
        open_source(tmp_path / "a.tif")


def test_a_map_of_other_numbers_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 9, 3)))
    with pytest.raises(BadImage, match=r"a.npy': expected pixels of uint8 or uint16, got float64"):
        open_source(tmp_path / "a.npy")


def test_a_missing_extra_is_named_with_the_file_that_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pyramid(tmp_path / "a.tif", ROCKET)
    (tmp_path / "a.svs").write_bytes((tmp_path / "a.tif").read_bytes())
    Image.fromarray(ROCKET).save(tmp_path / "a.png")
    monkeypatch.setattr(files, "WHOLE", 1000)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    assert isinstance(open_source(tmp_path / "a.tif"), OpenSlideSource)
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ImportError, match=r"a.svs' needs openslide, .* 'fovea-vit\[slides\]'$"):
        open_source(tmp_path / "a.svs")
    with pytest.raises(ImportError, match=r"a.tif' needs tifffile, .* 'fovea-vit\[tiff\]'$"):
        open_source(tmp_path / "a.tif")
    monkeypatch.setitem(sys.modules, "pyvips", None)
    assert isinstance(open_source(tmp_path / "a.png"), ArraySource)  # as Pillow still can
    monkeypatch.setattr(files, "PIL_LIMIT", 2000)
    with pytest.raises(ImportError, match=r"a.png' needs pyvips, .* 'fovea-vit\[vips\]'$"):
        open_source(tmp_path / "a.png")
    monkeypatch.setattr(files, "WHOLE", 10**9)
    assert np.array_equal(whole(open_source(tmp_path / "a.tif")), ROCKET)


def test_small_files_need_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("tifffile", "openslide", "pyvips", "zarr", "imagecodecs"):
        monkeypatch.setitem(sys.modules, library, None)
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(ROCKET).save(tmp_path / name)
        assert torch.equal(read(tmp_path / name, some_windows()), read(ROCKET, some_windows()))


def test_a_cache_keeps_the_latest_tiles_and_no_more_than_its_limit() -> None:
    cache, loaded = TileCache(250), []

    def get(key: int, size: int = 100) -> Pixels:
        def load() -> Pixels:
            loaded.append(key)
            return np.full((1, size, 1), key, np.uint8)

        return cache.get((0, 0, 0, key), load)

    for key in (1, 2, 1, 3, 1, 2):  # 2 is the least recently used when 3 comes
        assert get(key)[0, 0, 0] == key
        assert cache.held <= 250
    assert loaded == [1, 2, 3, 2]
    get(9, size=251)
    assert cache.held == 200


def photos() -> dict[str, Pixels]:
    seeded = np.random.default_rng(0)
    return {
        **{name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")},
        "noise": seeded.integers(0, 256, (512, 512, 3)).astype(np.uint8),
        "dark": seeded.integers(0, 4, (512, 512, 3)).astype(np.uint8),
        "flat": seeded.normal(100.4, 0.7, (512, 512, 3)).round().astype(np.uint8),
    }


@pytest.mark.parametrize("name", photos())
def test_the_mean_does_not_drift_over_the_levels(name: str) -> None:
    image = photos()[name]
    level = image = image[: image.shape[0] // 16 * 16, : image.shape[1] // 16 * 16]
    naive = image.astype(np.int64)
    for _ in range(4):
        out = np.empty((level.shape[0] // 2, level.shape[1] // 2, 3), np.uint8)
        halve(level, out)
        level = out
        naive = naive[0::2, 0::2] + naive[1::2, 0::2] + naive[0::2, 1::2] + naive[1::2, 1::2]
        naive = (naive + 2) // 4
    assert abs(level.mean() - image.mean()) / 4 < 0.01
    assert (naive.mean() - image.mean()) / 4 > 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_halving_is_the_mean_of_four_within_one_step(dtype: type) -> None:
    high = np.iinfo(dtype).max
    block = np.random.default_rng(0).integers(0, high + 1, (41, 30, 3)).astype(dtype)
    block[:2, :2], block[:2, 2:4] = high, 0
    out = np.empty((21, 15, 3), dtype)
    halve(block, out)
    even = np.concatenate([block, block[-1:]]).astype(np.float64)
    mean = (even[0::2, 0::2] + even[1::2, 0::2] + even[0::2, 1::2] + even[1::2, 1::2]) / 4
    assert np.abs(out - mean).max() <= 0.75
    assert (out[0, 0] == high).all()
    assert (out[0, 1] == 0).all()


def test_a_pixel_partly_outside_counts_by_its_share() -> None:
    block = np.array([[100, 200], [100, 200]], np.uint16)[..., None] * 100
    out = np.empty((1, 1, 1), np.uint16)
    halve(block, out, shares=(1.0, 0.25))
    assert abs(int(out[0, 0, 0]) - (100 + 0.25 * 200) / 1.25 * 100) <= 1
