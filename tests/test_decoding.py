"""Laws of decoding: every odd picture is read, and every bad one ends in BadImage."""

import io
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from pictures import (
    BAD,
    EPS,
    MUTABLE,
    ODD,
    RAMP,
    SIDE,
    UNDONE_BY,
    encode,
    gradient,
    iptc,
    png,
    text_bomb,
)
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin
from torch import Tensor

from fovea.decoding import PIL_LIMIT, BadImage, TooLarge, format_of, read_image
from fovea.images import as_images


def photo() -> Image.Image:
    """Open a photograph that comes with matplotlib: 512 x 600 pixels."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        return picture.convert("RGB")


def read(data: bytes, channels: int = 3, max_pixels: int = PIL_LIMIT) -> Tensor:
    return read_image(io.BytesIO(data), channels, max_pixels, name="picture")


def error_of(data: bytes, max_pixels: int = PIL_LIMIT) -> str:
    with pytest.raises(BadImage) as caught:
        read(data, max_pixels=max_pixels)
    return str(caught.value)


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


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_in_one_line(kind: str) -> None:
    message = error_of(BAD[kind]())
    assert re.fullmatch(r"'picture' cannot be used: [^\n]+", message)


@pytest.mark.parametrize("data", [png(30_000, 30_000, 8, []), png(100, 100, 8, [])])
def test_what_has_too_many_pixels_is_told_from_what_is_damaged(data: bytes) -> None:
    with pytest.raises(TooLarge, match="pixels"):
        read(data, max_pixels=9_999)


def test_a_text_that_takes_much_memory_is_refused() -> None:
    assert "too large" in error_of(text_bomb())


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_a_format_is_known_by_its_content(tmp_path: Path, format: str) -> None:
    data = encode(gradient(), format)
    (tmp_path / "misnamed.txt").write_bytes(data)
    assert format_of(io.BytesIO(data)) == format_of(tmp_path / "misnamed.txt") == format


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
