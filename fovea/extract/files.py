"""Open an image file of any size as a source of tiles, by the library that reads its format.

- ``.npy``: memory-mapped;
- slides (``.svs``, ``.ndpi``, ``.mrxs``, ...): OpenSlide, the extra ``slides``;
- TIFF: tifffile, the extra ``tiff``; without it OpenSlide where it can, else Pillow;
- everything else: decoded as a whole by ``fovea.decoding.read_image``, or, above ``WHOLE`` pixels,
  by libvips, the extra ``vips``, into the scratch file.

Which library reads a format is our choice and hardly depends on which extras are installed, so that
patches do not either. 16-bit pixels stay so in ``.npy`` and TIFF.
"""

import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from fovea.decoding import PIL_LIMIT, BadImage, read_image
from fovea.extract.tiles import TRIPPED, ArraySource, TileSource, refusals

WHOLE = 2**26
"""Pixels up to which an ordinary picture is decoded in memory."""

SLIDES = {
    *(".svs", ".svslide", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".czi", ".dcm"),
}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_source(path: str | Path, channels: int | None = None) -> TileSource:
    """Open a file; ``channels`` is what ordinary pictures are decoded to (None: 3).

    Raises:
        BadImage: the file is missing, damaged or no image, or holds pixels that are not read.
        ImportError: its format needs an extra that is not installed.
    """
    path = Path(path)
    with refusals(repr(str(path))):
        with path.open("rb") as file:
            start = file.read(4)
        if not start:
            raise ValueError("the file is empty")
    if path.suffix.lower() == ".npy":
        return _open_npy(path)
    if path.suffix.lower() in SLIDES:
        return _open_slide(path)
    return _open_tiff(path, channels) if start in _TIFF else _open_picture(path, channels)


def library(module: str, extra: str, name: str) -> ModuleType:
    """Import what a file needs.

    Raises:
        ImportError: it is not installed; the message names the file and the extra.
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: the C library behind it is missing
        raise ImportError(
            f"{name} needs {module}, which cannot be imported: pip install 'fovea-vit[{extra}]'"
        ) from error


def _open_npy(path: Path) -> TileSource:
    name = repr(str(path))
    with refusals(name):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    try:
        return ArraySource(array, name=name)
    except ValueError as error:
        raise BadImage(str(error)) from None


def _open_slide(path: Path) -> TileSource:
    library("openslide", "slides", repr(str(path)))
    from fovea.extract.slides import OpenSlideSource

    return OpenSlideSource(path)


def _open_tiff(path: Path, channels: int | None) -> TileSource:
    """Prefer OpenSlide for TIFFs that scanners wrote, tifffile for all others."""
    vendor = _vendor(path)
    if vendor not in (None, "generic-tiff"):
        return _open_slide(path)
    try:
        library("tifffile", "tiff", repr(str(path)))
    except ImportError:
        if vendor is not None:
            return _open_slide(path)
        if (_pixels(path) or 0) > WHOLE:
            raise
        return _open_whole(path, channels)
    from fovea.extract.tiff import TiffSource

    return TiffSource(path)


def _vendor(path: Path) -> str | None:
    """Ask OpenSlide, where it is installed, whose slide this is."""
    try:
        openslide = library("openslide", "slides", repr(str(path)))
    except ImportError:
        return None
    vendor: str | None = openslide.OpenSlide.detect_format(str(path))
    return vendor


def _open_picture(path: Path, channels: int | None) -> TileSource:
    pixels = _pixels(path)
    if pixels is None or pixels <= WHOLE:
        return _open_whole(path, channels)
    try:
        library("pyvips", "vips", repr(str(path)))
    except ImportError:
        if pixels > PIL_LIMIT:
            raise
        return _open_whole(path, channels)
    from fovea.extract.vips import VipsSource

    return VipsSource(path, channels)


def _open_whole(path: Path, channels: int | None) -> TileSource:
    image = read_image(path, 3 if channels is None else channels)
    return ArraySource(image.numpy(), name=repr(str(path)))


def _pixels(path: Path) -> int | None:
    """Read a picture's size from its header; None where Pillow does not know the format."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                return picture.width * picture.height
    except Image.DecompressionBombError:
        return 2 * PIL_LIMIT
    except (SyntaxError, *TRIPPED):
        return None
