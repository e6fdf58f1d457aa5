"""TIFF files through tifffile: tiled, in strips or memory-mapped, with or without coarser levels.

Levels are those of the first image of the file: pages that repeat it smaller, SubIFDs (OME) or a
vendor's pyramid. Tiles are decoded one by one, without zarr, which would start a thread of its own
that forked data loaders hang on.
"""

from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
import tifffile

from fovea.extract.tiles import Level, Pixels, TileSource, over_white, refusals

_LARGEST_TILE = 2**29  # bytes
_MINISWHITE, _MINISBLACK, _RGB, _YCBCR = 0, 1, 2, 6
_JPEG = (6, 7)
_ALPHA = {1: "premultiplied", 2: "straight"}


class TiffSource(TileSource):
    """A TIFF file: grey or RGB, or as many bands as it has; uint8 or uint16.

    Opacity, where it is stated, is laid over white. Of a stack or a document the first image is
    read. The orientation tag is not applied (our choice: pyramids do not use it). 12-bit pixels
    are not stretched and so are dark.
    """

    def __init__(self, path: str | Path):
        """Open a file.

        Raises:
            BadImage: it is missing, damaged or no TIFF, or has pixels that are not read.
        """
        self.path = path
        self.name = repr(str(path))
        with refusals(self.name):
            self._file = tifffile.TiffFile(path)
            finalize(self, self._file.close)
            self._pages: list[Any] = [level.pages[0] for level in self._file.series[0].levels]
            frame = self._pages[0].keyframe
            _check_kind(frame, self._file.series[0].axes)
            self.dtype = frame.dtype
            self._alpha = _alpha(frame)
            self._inverted = frame.photometric == _MINISWHITE
            self.channels = frame.samplesperpixel - (self._alpha is not None)
            self._maps = [self._map(page) for page in self._pages]
            self.levels = tuple(
                _level(page.keyframe, mapped is not None)
                for page, mapped in zip(self._pages, self._maps, strict=True)
            )

    def __reduce__(self) -> tuple[type[TileSource], tuple[str | Path]]:
        return TiffSource, (self.path,)

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a tile of a level, or any region of one that is memory-mapped."""
        mapped = self._maps[level]
        with refusals(self.name):
            if mapped is not None:
                pixels = mapped[top:bottom, left:right]
            else:
                pixels = self._tile(level, top, left)[: bottom - top, : right - left]
            if self._inverted:
                pixels = np.iinfo(self.dtype).max - pixels
            if self._alpha is not None:
                pixels = over_white(pixels, self._alpha == "premultiplied")
            return pixels

    def _tile(self, level: int, top: int, left: int) -> Pixels:
        """Decode one tile or strip, of each plane if the channels are stored apart."""
        page, (height, width) = self._pages[level], self.levels[level].tile or (1, 1)
        across = -(-self.levels[level].width // width)
        index = top // height * across + left // width
        planes = page.keyframe.samplesperpixel if page.keyframe.planarconfig == 2 else 1
        apart = len(page.dataoffsets) // planes
        parts = [self._segment(page, index + plane * apart) for plane in range(planes)]
        return parts[0] if planes == 1 else np.concatenate(parts, axis=2)

    def _segment(self, page: Any, index: int) -> Pixels:
        """Decode one tile or strip: -> [h, w, samples]; black where the file leaves it out."""
        count = page.databytecounts[index]
        file = self._file.filehandle
        file.seek(page.dataoffsets[index])
        data = file.read(count)
        if len(data) < count:
            raise ValueError("the file is truncated")
        jpeg = {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}
        pixels, _, shape = page.keyframe.decode(data if count else None, index, **jpeg)
        tile: Pixels = np.zeros(shape[1:], self.dtype) if pixels is None else pixels[0]
        return tile

    def _map(self, page: Any) -> Pixels | None:
        """Map a page whose pixels lie in the file as they are: -> [H, W, samples]."""
        frame = page.keyframe
        if not page.is_memmappable:
            return None
        dtype = self.dtype.newbyteorder(self._file.byteorder)
        planar = frame.planarconfig == 2 and frame.samplesperpixel > 1
        size, samples = (frame.imagelength, frame.imagewidth), frame.samplesperpixel
        shape = (samples, *size) if planar else (*size, samples)
        mapped = np.asarray(np.memmap(self.path, dtype, "r", page.dataoffsets[0], shape))
        return np.moveaxis(mapped, 0, 2) if planar else mapped


def _check_kind(frame: Any, axes: str) -> None:
    """Refuse pixels that are neither brightness nor colour."""
    if frame.dtype not in (np.uint8, np.uint16) or frame.bitspersample < 8:
        raise ValueError(f"pixels of {frame.bitspersample} bits, {frame.dtype}; expected 8 or 16")
    jpeg = frame.photometric == _YCBCR and frame.compression in _JPEG
    if frame.photometric not in (_MINISWHITE, _MINISBLACK, _RGB) and not jpeg:
        raise ValueError(f"its colours are {frame.photometric.name}; expected grey or RGB")
    if "C" in axes or frame.imagedepth > 1:
        raise ValueError(f"axes {axes}; expected one plane, its channels in one page (YX or YXS)")


def _alpha(frame: Any) -> str | None:
    """Say how the last sample is opacity, if it is."""
    if len(frame.extrasamples) != 1 or frame.samplesperpixel not in (2, 4):
        return None
    return _ALPHA.get(int(frame.extrasamples[0]))


def _level(frame: Any, mapped: bool) -> Level:
    height, width = frame.imagelength, frame.imagewidth
    if mapped:
        return Level(height, width)
    tile = (frame.tilelength, frame.tilewidth) if frame.is_tiled else (frame.rowsperstrip, width)
    tile = min(tile[0], height), tile[1]
    size = tile[0] * tile[1] * frame.samplesperpixel * frame.dtype.itemsize
    if size > _LARGEST_TILE:
        raise ValueError(
            f"it is compressed in pieces of {size / 1e6:.0f} MB, which cannot be read in parts; "
            "store it as a tiled TIFF"
        )
    return Level(height, width, tile)
