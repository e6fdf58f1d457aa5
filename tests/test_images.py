"""Laws of reading images: every odd picture is read, and every bad one ends in BadImage."""

import io
import random
import re
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin
from torch import Tensor

from fovea.images import PIL_LIMIT, BadImage, as_images, read_image

SIDE = 16
MEGABYTE = 2**20
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in one unit of ru_maxrss


def gradient(height: int = SIDE, width: int = SIDE) -> Image.Image:
    """Draw a colourful picture that no flip or turn leaves as it was."""
    y, x = np.mgrid[0:height, 0:width]
    colours = np.stack([x * 255 // width, y * 255 // height, (x + 3 * y) % 256], axis=-1)
    return Image.fromarray(colours.astype(np.uint8))


def photo() -> Image.Image:
    """Open a photograph that comes with matplotlib: 512 x 600 pixels."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        return picture.convert("RGB")


def encode(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def read(data: bytes, channels: int = 3, max_pixels: int = PIL_LIMIT) -> Tensor:
    return read_image(io.BytesIO(data), channels, max_pixels, name="picture")


def error_of(data: bytes, max_pixels: int = PIL_LIMIT) -> str:
    with pytest.raises(BadImage) as caught:
        read(data, max_pixels=max_pixels)
    return str(caught.value)


def png(width: int, height: int, bits: int, rows: Iterable[bytes], *chunks: bytes) -> bytes:
    """Write a grey PNG by hand, which takes little memory however large the picture."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    pixels = b"".join([*map(packer.compress, rows), packer.flush()])
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", pixels)]
    return b"".join([b"\x89PNG\r\n\x1a\n", *parts, png_chunk(b"IEND", b"")])


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def iptc(inner: bytes) -> bytes:
    """Wrap a file the way IPTC does: fields of tag, size and value."""

    def field(record: int, number: int, value: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, record, number, len(value)) + value

    layout = [(60, b"\1\0"), (20, b"\0\x10"), (30, b"\0\x10"), (120, b"\5")]
    fields = [field(3, number, value) for number, value in layout]
    return b"".join(fields) + field(8, 10, inner)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n%%EOF\n"

RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)

ODD: dict[str, Callable[[], bytes]] = {
    "1-bit": lambda: encode(gradient().convert("1")),
    "1-bit TIFF": lambda: encode(gradient().convert("1"), "TIFF", compression="group4"),
    "grey": lambda: encode(gradient().convert("L"), "JPEG"),
    "grey with alpha": lambda: encode(gradient().convert("LA")),
    "grey with a transparent shade": lambda: encode(gradient().convert("L"), transparency=7),
    "palette": lambda: encode(gradient().convert("P"), "GIF"),
    "palette with a transparent entry": lambda: encode(gradient().convert("P"), transparency=7),
    "palette with alphas": lambda: encode(gradient().convert("P"), transparency=bytes(range(256))),
    "RGB with a transparent colour": lambda: encode(gradient(), transparency=(0, 0, 0)),
    "RGBA": lambda: encode(gradient().convert("RGBA"), "WEBP"),
    "CMYK JPEG": lambda: encode(gradient().convert("CMYK"), "JPEG"),
    "CMYK TIFF": lambda: encode(gradient().convert("CMYK"), "TIFF"),
    "YCbCr": lambda: encode(gradient().convert("YCbCr"), "TIFF"),
    "LAB": lambda: encode(gradient().convert("LAB"), "TIFF"),
    "16-bit": lambda: encode(Image.fromarray(RAMP[:SIDE, :SIDE])),
    "16-bit big-endian": lambda: encode(Image.fromarray(RAMP[:SIDE, :SIDE].astype(">u2")), "TIFF"),
    "32-bit": lambda: encode(Image.fromarray(RAMP[:SIDE, :SIDE].astype(np.int32)), "TIFF"),
    "float": lambda: encode(Image.fromarray(np.eye(SIDE, dtype=np.float32)), "TIFF"),
    "progressive": lambda: encode(gradient(), "JPEG", progressive=True),
    "animated GIF": lambda: encode(
        gradient(), "GIF", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))]
    ),
    "multi-page TIFF": lambda: encode(
        gradient(), "TIFF", save_all=True, append_images=[Image.new("L", (3, 5))]
    ),
    "bitmap": lambda: encode(gradient(), "BMP"),
    "damaged EXIF": lambda: encode(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ODD)
def test_odd_but_good_images_are_read(kind: str, channels: int) -> None:
    image = read(ODD[kind](), channels)
    assert image.shape == (SIDE, SIDE, channels)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert len(image.unique()) > 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5000, 1), (1, 5000), (8000, 8000)])
def test_any_shape_of_image_is_read(width: int, height: int) -> None:
    rows = (b"\0" + bytes([(y % 2) * 255]) * ((width + 7) // 8) for y in range(height))
    image = read(png(width, height, 1, rows), channels=1)
    assert image.shape == (height, width, 1)
    assert image[:, 0, 0].tolist() == [(y % 2) * 255 for y in range(height)]


def test_lossless_colours_are_kept_bit_for_bit() -> None:
    assert np.array_equal(read(encode(gradient())).numpy(), np.array(gradient()))


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV", "CMYK"])
def test_colour_spaces_come_back_as_the_same_colours(mode: str) -> None:
    (image,) = as_images(gradient(64, 64).convert(mode))
    distance = (image.float() - torch.from_numpy(np.array(gradient(64, 64))).float()).abs()
    assert distance.mean() < 4


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_exif_orientations_give_the_same_picture(format: str, mode: str) -> None:
    upright = Image.new(mode, (32, 16))
    upright.paste(Image.new(mode, (16, 8), 255 if mode == "L" else (255, 128, 0)))
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    pictures = []
    for orientation, undo in UNDONE_BY.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored = upright if undo is None else upright.transpose(undo)
        pictures.append(read(encode(stored, format, exif=exif, **options.get(format, {}))))
    expected = torch.from_numpy(np.array(upright.convert("RGB")))
    for picture in pictures:
        assert picture.shape == expected.shape
        assert (picture.int() - expected.int()).abs().max() <= 4  # JPEG


# What turns the upright picture into the stored one: the inverse of what the orientation asks for.
UNDONE_BY = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        ("PNG", "<u2"),
        ("PNG", ">u2"),
        ("PPM", "<u2"),
        ("TIFF", "<u2"),
        ("TIFF", ">u2"),
        ("TIFF", "<i4"),
        ("JPEG2000", "<u2"),
    ],
)
def test_a_16_bit_ramp_keeps_all_levels(format: str, dtype: str) -> None:
    image = read(encode(Image.fromarray(RAMP.astype(dtype)), format), channels=1)
    assert torch.equal(image.flatten(), torch.from_numpy((RAMP.ravel() + 128.0) // 257).byte())


def test_float_pixels_in_0_to_1_are_spread_over_255() -> None:
    levels = np.arange(256, dtype=np.float32)[None] / 255
    image = read(encode(Image.fromarray(levels), "TIFF"), channels=1)
    assert image.flatten().tolist() == list(range(256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.5, 255.0])
def test_float_pixels_outside_0_to_1_are_refused(value: float) -> None:
    pixels = np.full((4, 4), 0.5, dtype=np.float32)
    pixels[1, 2] = value
    message = error_of(encode(Image.fromarray(pixels), "TIFF"))
    assert str(value) in message
    assert "mode F, not 0 to 1" in message


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_beyond_16_bits_are_refused(value: int) -> None:
    pixels = np.array([[0, value]], dtype=np.int32)
    assert "mode I, not 0 to 65535" in error_of(encode(Image.fromarray(pixels), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    picture = Image.new("RGBA", (3, 1))
    picture.putdata([(0, 0, 0, 0), (0, 0, 0, 255), (0, 0, 0, 51)])
    (image,) = as_images(picture.convert(mode) if mode != "PA" else with_alpha_palette(picture))
    assert image[0, :, 0].tolist() == [255, 0, 204]


def with_alpha_palette(picture: Image.Image) -> Image.Image:
    indices = Image.new("L", picture.size)
    blended = Image.merge("LA", [indices, picture.getchannel("A")])
    blended.putpalette([0, 0, 0])
    return blended


def test_of_an_animation_the_first_frame_is_read() -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    data = encode(red, "GIF", save_all=True, append_images=[blue])
    assert read(data)[0, 0].tolist() == [255, 0, 0]


def test_grey_is_the_same_from_one_and_from_three_channels() -> None:
    data = encode(gradient().convert("L"))
    assert torch.equal(read(data, 1).expand(-1, -1, 3), read(data, 3))


@pytest.mark.parametrize("name", ["plain.png", "späce ünd 猫.png", "new\nline.png", "no_suffix"])
def test_files_of_any_name_are_read_by_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encode(gradient()))
    assert torch.equal(read_image(path), read_image(str(path)))


def test_a_stream_is_left_open() -> None:
    stream = io.BytesIO(encode(gradient()))
    read_image(stream)
    assert torch.equal(read_image(stream), read_image(stream))


def test_more_than_pillows_warning_limit_is_read_without_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE * SIDE - 1)
    assert read(encode(gradient())).shape == (SIDE, SIDE, 3)


# Reduced JPEGs


@settings(deadline=None)
@given(st.integers(1, 260), st.integers(1, 260), st.integers(1, 130))
def test_a_jpeg_comes_at_the_smallest_scale_with_the_wanted_shorter_side(
    height: int, width: int, wanted: int
) -> None:
    data = encode(gradient(height, width), "JPEG")
    h, w, _ = read_image(io.BytesIO(data), name="picture", shorter_side=wanted).shape
    m = min(height, width)
    scale = max([s for s in (1, 2, 4, 8) if m // s >= wanted], default=1)
    assert min(h, w) >= min(wanted, m)
    assert abs(h - height / scale) <= 0.5
    assert abs(w - width / scale) <= 0.5


JPEGS: dict[str, Callable[[Image.Image], bytes]] = {
    "colour": lambda picture: encode(picture, "JPEG", quality=95),
    "full colour": lambda picture: encode(picture, "JPEG", quality=95, subsampling=0),
    "progressive": lambda picture: encode(picture, "JPEG", quality=95, progressive=True),
    "grey": lambda picture: encode(picture.convert("L"), "JPEG", quality=95),
    "CMYK": lambda picture: encode(picture.convert("CMYK"), "JPEG", quality=95),
    "MPO": lambda picture: encode(picture, "MPO", save_all=True, append_images=[picture]),
}


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", JPEGS)
def test_a_pixel_of_a_reduced_jpeg_is_the_mean_of_those_it_stands_for(
    kind: str, channels: int, scale: int
) -> None:
    data = JPEGS[kind](photo().resize((320, 240)))
    reduced = read_image(io.BytesIO(data), channels, name="picture", shorter_side=240 // scale)
    pixels = read(data, channels).float().view(240 // scale, scale, 320 // scale, scale, channels)
    difference = (reduced.float() - pixels.mean((1, 3))).square().mean().sqrt()
    subsampled = channels == 3 and kind in ("colour", "progressive", "MPO")
    assert difference < (2 if subsampled else 0.6)  # 0.3 is rounding


@pytest.mark.parametrize(("height", "width"), [(256, 384), (259, 390), (249, 389), (253, 385)])
def test_what_lies_at_a_share_of_the_width_stays_there_at_any_size(height: int, width: int) -> None:
    """Brightness grows from left to right: half a reduced pixel would be 3 of 255."""
    share = (np.arange(width) + 0.5) / width
    ramp = Image.fromarray(np.tile(np.rint(share * 255), (height, 1)).astype(np.uint8))
    for picture in (ramp, ramp.transpose(Image.Transpose.TRANSPOSE)):
        data = encode(picture, "JPEG", quality=100)
        reduced = read_image(io.BytesIO(data), 1, name="picture", shorter_side=31)[..., 0]
        found = reduced.float().mean(0 if picture is ramp else 1)
        expected = (torch.arange(len(found)) + 0.5) / len(found) * 255
        assert len(found) == round(width / 8)
        assert (found - expected).abs()[1:-1].max() < 1


@pytest.mark.parametrize("orientation", UNDONE_BY)
def test_a_reduced_jpeg_is_upright(orientation: int) -> None:
    upright = photo().resize((160, 96))
    undo = UNDONE_BY[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = upright if undo is None else upright.transpose(undo)
    data = encode(stored, "JPEG", exif=exif, quality=95, subsampling=0)
    reduced = read_image(io.BytesIO(data), name="picture", shorter_side=12)
    expected = torch.from_numpy(np.array(upright)).float().view(12, 8, 20, 8, 3).mean((1, 3))
    assert (reduced - expected).abs().mean() < 2


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_other_formats_are_decoded_whole(format: str) -> None:
    data = encode(gradient(64, 64), format)
    reduced = read_image(io.BytesIO(data), name="picture", shorter_side=1)
    assert torch.equal(reduced, read(data))


def test_a_jpeg_that_is_needed_whole_is_as_it_always_was() -> None:
    data = encode(gradient(64, 48), "JPEG")
    for wanted in (25, 48, 49, 10**9):
        whole = read_image(io.BytesIO(data), name="picture", shorter_side=wanted)
        assert torch.equal(whole, read(data))


def test_a_reduced_jpeg_is_refused_by_its_whole_size_or_if_truncated() -> None:
    data = encode(gradient(64, 64), "JPEG")
    with pytest.raises(BadImage, match="64 x 64 pixels are over 4095"):
        read_image(io.BytesIO(data), max_pixels=4095, shorter_side=8)
    with pytest.raises(BadImage, match="truncated"):
        read_image(io.BytesIO(data[:-30]), shorter_side=8)


def test_at_least_one_pixel_must_be_needed() -> None:
    with pytest.raises(ValueError, match="shorter_side: expected at least 1 pixel, got 0"):
        read_image(io.BytesIO(encode(gradient())), shorter_side=0)


# Bad files


def bomb(width: int, height: int) -> bytes:
    return png(width, height, 1, (bytes(width // 8 + 1) for _ in range(height)))


def test_bombs_are_refused_by_their_header_with_little_memory() -> None:
    small_file = bomb(10_000, 10_000)
    assert len(small_file) < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "10000 x 10000 pixels are over 50000000" in error_of(small_file, max_pixels=50_000_000)
    assert "900000000 pixels" in error_of(png(30_000, 30_000, 8, []))
    text = png_chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(32 * MEGABYTE), 9))
    assert "too large" in error_of(png(SIDE, SIDE, 8, [], text))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * PEAK_UNIT < 50 * MEGABYTE


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_a_picture_over_the_limit_is_never_decoded(
    format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(gradient(), format)
    assert read(data, max_pixels=SIDE * SIDE).shape == (SIDE, SIDE, 3)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert f"{SIDE} x {SIDE} pixels" in error_of(data, max_pixels=SIDE * SIDE - 1)


def test_an_icon_that_hides_a_larger_picture_is_refused() -> None:
    inner = encode(Image.new("RGB", (300, 300)))
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22)
    assert "300 x 300 pixels are over 1000" in error_of(directory + inner, max_pixels=1000)


@pytest.mark.parametrize("data", [EPS, iptc(EPS)], ids=["EPS", "EPS in IPTC"])
def test_formats_that_start_other_programs_are_refused_undecoded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started a program"))
    assert "may start another program" in error_of(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"an essay about images", "not an image"),
        (b"<html><body>404</body></html>", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (png(0, 7, 8, []), "not an image"),
        (png(7, 7, 8, []), "truncated"),
        (struct.pack("<2sIHHI", b"BM", 26, 0, 0, 26), "pixels|image"),
    ],
)
def test_what_is_no_whole_image_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    assert re.search(reason, error_of(data))


def test_files_that_cannot_be_opened_are_bad_images_too(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"gone\.png' cannot be used: No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(BadImage, match="cannot be used: Is a directory"):
        read_image(tmp_path)


def test_a_message_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new\nline.png"
    path.write_bytes(encode(gradient())[:-30])
    with pytest.raises(BadImage, match=r"\\nline\.png' cannot be used: .+") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadImage, match="'shard 3, row 5' cannot be used"):
        read_image(path, name="shard 3, row 5")


MUTABLE: dict[str, bytes] = {
    "PNG": encode(gradient().convert("RGBA")),
    "PNG palette": encode(gradient().convert("P")),
    "JPEG": encode(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "GIF": encode(gradient(), "GIF"),
    "TIFF": encode(gradient(), "TIFF"),
    "WEBP": encode(gradient(), "WEBP"),
    "WEBP lossless": encode(gradient(), "WEBP", lossless=True),
    "BMP": encode(gradient(), "BMP"),
}


@pytest.mark.parametrize("format", MUTABLE)
def test_truncated_files_are_refused_unless_only_what_follows_the_pixels_is_lost(
    format: str,
) -> None:
    data = MUTABLE[format]
    whole = read(data)
    refused = 0
    for length in range(len(data)):
        try:
            image = read(data[:length])
        except BadImage:
            refused += 1
        else:
            assert torch.equal(image, whole)
    assert refused > len(data) // 2


@pytest.mark.parametrize("format", MUTABLE)
def test_mutated_files_only_ever_raise_bad_image(format: str) -> None:
    chance = random.Random(format)
    messages = []
    for _ in range(100):
        data = bytearray(MUTABLE[format])
        for _ in range(chance.choice([1, 2, 8])):
            data[chance.randrange(chance.choice([64, len(data)])) % len(data)] = chance.choice(
                [0, 255, chance.randrange(256)]
            )
        try:
            image = read(bytes(data), max_pixels=10_000)
        except BadImage as error:
            messages.append(str(error))
        else:
            assert image.dtype == torch.uint8
            assert image.shape[-1] == 3
    assert 0 < len(messages) < 100
    assert all(message.startswith("'picture' cannot be used: ") for message in messages)


def test_damage_to_metadata_alone_does_not_raise_or_warn() -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[ExifTags.Base.Make] = "camera"
    exif = b"Exif\0\0" + directory.tobytes()[:-3]
    assert read(encode(gradient(), "JPEG", exif=exif)).shape == (SIDE, SIDE, 3)


def test_only_one_or_three_channels_can_be_asked_of_a_file() -> None:
    with pytest.raises(ValueError, match="channels: expected 1 or 3, got 4"):
        read(encode(gradient()), channels=4)


# Images in memory

PIXELS = np.array(gradient(4, 6))  # [H, W, C]
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)  # [C, H, W]


@pytest.mark.parametrize(
    "images",
    [
        gradient(4, 6),
        PIXELS,
        TENSOR,
        PIXELS[None],
        TENSOR[None],
        [gradient(4, 6)],
        (TENSOR, PIXELS, gradient(4, 6)),
        PIXELS[::-1][::-1],
        np.asarray(gradient(4, 6)),
    ],
    ids=["PIL", "array", "tensor", "arrays", "tensors", "list", "mixed", "strided", "read-only"],
)
@pytest.mark.parametrize("channels", [None, 3])
def test_every_kind_of_image_gives_the_same_tensor(images: object, channels: int | None) -> None:
    for image in as_images(images, channels):  # type: ignore[arg-type]
        assert np.array_equal(image.numpy(), PIXELS)
        assert image.is_contiguous()


def test_a_batch_becomes_its_images_in_order() -> None:
    batch = torch.arange(5 * 3 * 2 * 4, dtype=torch.uint8).view(5, 3, 2, 4)
    assert torch.equal(torch.stack(as_images(batch)), batch.permute(0, 2, 3, 1))


def test_images_of_a_list_may_differ_in_size() -> None:
    images = as_images([gradient(3, 5), PIXELS, TENSOR[:, :1, :1]])
    assert [tuple(image.shape) for image in images] == [(3, 5, 3), (4, 6, 3), (1, 1, 3)]


@pytest.mark.parametrize("grey", [PIXELS[..., 0], PIXELS[..., :1], TENSOR[0], TENSOR[:1]])
def test_grey_arrays_keep_one_channel_unless_three_are_asked(
    grey: np.ndarray | Tensor,
) -> None:
    (kept,), (repeated,) = as_images(grey), as_images(grey, channels=3)
    assert np.array_equal(kept.numpy(), PIXELS[..., :1])
    assert torch.equal(repeated, kept.expand(-1, -1, 3))
    assert repeated.is_contiguous()


@pytest.mark.parametrize("orientation", UNDONE_BY)
def test_a_pil_image_reads_as_its_file_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encode(gradient(4, 6).convert("P"), exif=exif, transparency=3)
    for channels in (1, 3):
        (image,) = as_images(Image.open(io.BytesIO(data)), channels)
        assert torch.equal(image, read(data, channels))


def test_a_pil_image_is_left_as_it_was() -> None:
    picture = gradient(4, 6).convert("RGBA")
    picture.getexif()[ExifTags.Base.Orientation] = 6
    (image,) = as_images(picture)
    assert image.shape == (6, 4, 3)
    assert (picture.mode, picture.size) == ("RGBA", (6, 4))
    assert picture.getexif()[ExifTags.Base.Orientation] == 6


def test_arrays_of_many_channels_are_kept() -> None:
    (image,) = as_images(np.zeros((8, 9, 13), dtype=np.uint8), channels=13)
    assert image.shape == (8, 9, 13)


@pytest.mark.parametrize(
    ("images", "channels", "message"),
    [
        ([], None, "images is empty"),
        (TENSOR[None][:0], None, "images is empty"),
        (
            [PIXELS, PIXELS / 255.0],
            None,
            r"images\[1\]: float64, but images\[0\] is uint8; give all of one",
        ),
        (TENSOR.float(), None, r"\[0\]: float pixels from 0 to 2\d\d, expected 0 to 1"),
        (TENSOR.half(), None, r"\[0\]: expected uint8, uint16, float32, float64, got float16; sc"),
        (TENSOR > 0, None, r"\[0\]: expected uint8, .*, got bool"),
        (PIXELS[0, 0], None, r"\[0\]: expected 2 or 3 dimensions, got shape \(3,\)"),
        ([TENSOR[None]], None, r"\[0\]: expected 2 or 3 dimensions, got shape \(1, 3, 4, 6\)"),
        ([PIXELS, PIXELS[:0]], None, r"images\[1\]: empty, as its shape is \(0, 6, 3\)"),
        (TENSOR[:0], None, r"\[0\]: empty, as its shape is \(0, 4, 6\)"),
        (Image.new("RGB", (0, 5)), None, r"\[0\] cannot be used: it has no pixels"),
        ([PIXELS, "cat.png"], None, r"\[1\]: got the path 'cat.png'; open it with fovea.images.re"),
        (Path("cat.png"), None, r"\[0\]: got the path 'cat.png'; open it with fovea.images.read_i"),
        ([PIXELS, None], None, r"\[1\]: expected a PIL image, numpy array or torch tensor, got No"),
        ([[PIXELS]], None, r"\[0\]: expected a PIL image, numpy array or torch tensor, got list"),
        (b"\x89PNG", None, r"\[0\]: expected a PIL image, numpy array or torch tensor, got bytes"),
        (
            [PIXELS, TENSOR],
            1,
            r"\[0\]: 4 x 6 pixels of 3 channels, expected 1; a numpy array is \[",
        ),
        (PIXELS.repeat(2, axis=2), 3, r"\[0\]: 4 x 6 pixels of 6 channels, expected 3"),
        (
            torch.zeros(90, 80, 3).byte(),
            None,
            r"90 channels, expected 1 to 4; .* tensor \[C, H, W\]",
        ),
        (
            np.zeros((3, 90, 80), np.uint8),
            None,
            r"80 channels, expected 1 to 4; a numpy array is \[",
        ),
        ([PIXELS, PIXELS[..., :1]], None, r"images\[1\]: 1 channels, but images\[0\] has 3; state"),
        ([TENSOR, gradient()], 2, r"\[0\]: 4 x 6 pixels of 3 channels, expected 2"),
        (gradient(), 2, r"images\[0\]: channels of a PIL image: expected 1 or 3, got 2"),
    ],
)
def test_an_error_names_the_position_the_fault_and_what_would_be_right(
    images: object, channels: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        as_images(images, channels)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_pil_image_that_cannot_be_decoded_is_a_bad_image() -> None:
    lazy = Image.open(io.BytesIO(encode(gradient(), "BMP")[:-30]))
    with pytest.raises(BadImage, match=r"images\[1\] cannot be used: .*truncated"):
        as_images([gradient(), lazy])
