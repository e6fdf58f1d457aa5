"""Pictures and files to test with: odd but good ones, and bad ones of every kind."""

import io
import pickle
import random
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

SIDE = 16


def gradient(height: int = SIDE, width: int = SIDE) -> Image.Image:
    """Draw a colourful picture that no flip or turn leaves as it was."""
    y, x = np.mgrid[0:height, 0:width]
    colours = np.stack([x * 255 // width, y * 255 // height, (x + 3 * y) % 256], axis=-1)
    return Image.fromarray(colours.astype(np.uint8))


def encode(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


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


def turned(orientation: int) -> bytes:
    """Write a JPEG that is upright only by its EXIF orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    undo = UNDONE_BY[orientation]
    stored = gradient() if undo is None else gradient().transpose(undo)
    return encode(stored, "JPEG", exif=exif)


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


def bomb(width: int, height: int) -> bytes:
    """Write a PNG of so many pixels in a few bytes."""
    return png(width, height, 1, (bytes(width // 8 + 1) for _ in range(height)))


def text_bomb(megabytes: int = 32) -> bytes:
    """Write a small PNG with a text that takes so much memory."""
    packed = zlib.compress(bytes(megabytes * 2**20), 9)
    return png(SIDE, SIDE, 8, [], png_chunk(b"zTXt", b"key\0\0" + packed))


def tiff(value: float, dtype: type) -> bytes:
    """Write a grey TIFF with one pixel of a value."""
    pixels = np.zeros((SIDE, SIDE), dtype)
    pixels[3, 5] = value
    return encode(Image.fromarray(pixels), "TIFF")


def write_tar(path: Path, files: Mapping[str, bytes], **options: object) -> Path:
    """Write files, in their order, to a tar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def half(data: bytes) -> bytes:
    """Cut a file off in the middle."""
    return data[: len(data) // 2]


def damaged(data: bytes) -> bytes:
    """Flip a bit in the middle of a file."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]


BAD: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"an essay about images",
    "page": lambda: b"<html><body>404</body></html>",
    "drawing": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "zeros": lambda: bytes(1000),
    "noise": lambda: random.Random(0).randbytes(1000),
    "pickle": lambda: pickle.dumps({"image": [0, 1, 2]}),
    "JPEG cut": lambda: half(encode(gradient(), "JPEG")),
    "JPEG head": lambda: encode(gradient(), "JPEG")[:20],
    "PNG cut": lambda: half(encode(gradient())),
    "PNG head": lambda: encode(gradient())[:8],
    "PNG without rows": lambda: png(7, 7, 8, []),
    "PNG without width": lambda: png(0, 7, 8, []),
    "PNG damaged": lambda: damaged(encode(gradient())),
    "GIF cut": lambda: half(encode(gradient(), "GIF")),
    "TIFF cut": lambda: half(encode(gradient(), "TIFF")),
    "WEBP cut": lambda: half(encode(gradient(), "WEBP")),
    "BMP cut": lambda: half(encode(gradient(), "BMP")),
    "EPS": lambda: EPS,
    "EPS in IPTC": lambda: iptc(EPS),
    "many pixels": lambda: png(30_000, 30_000, 8, []),
    "much text": text_bomb,
    "not a number": lambda: tiff(float("nan"), np.float32),
    "beyond 16 bits": lambda: tiff(65536, np.int32),
}
