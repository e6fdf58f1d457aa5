"""Make any image, on disk or in memory, a source of tiles."""

from functools import singledispatch
from pathlib import Path

import numpy as np

from fovea.extract.files import open_source
from fovea.extract.tiles import ArraySource, Pixels, TileSource
from fovea.images import Images, as_images, listed


def as_sources(images: Images, channels: int | None) -> list[TileSource]:
    """Make sources of one image or several, which can all be brought to the same channels.

    An image is a path, a source of tiles, or in memory, uint8 or uint16. Arrays are not copied, so
    that memory maps are not read.

    Raises:
        ValueError: no images, or an image of another kind, dtype, shape or number of channels.
        BadImage: a file is missing, damaged or no image.
        ImportError: a file needs an extra that is not installed.
    """
    given = listed(images)
    sources = [_source(given[i], channels, f"images[{i}]") for i in range(len(given))]
    if not sources:
        raise ValueError("images is empty; expected at least one image")
    fitting = (1, 3) if channels == 3 else (channels or sources[0].channels,)
    for source in sources:
        if source.channels in fitting:
            continue
        found = f"{source.name}: {source.channels} channels"
        if channels is not None:
            raise ValueError(f"{found}, expected {channels}")
        raise ValueError(
            f"{found}, but {sources[0].name} has {sources[0].channels}; "
            "state channels=3 to repeat grey images"
        )
    return sources


@singledispatch
def _source(image: object, channels: int | None, name: str) -> TileSource:
    """Make any image a source of tiles; kinds that are not named here are those of as_images."""
    try:
        tensor = as_images([image], channels)[0]  # type: ignore[list-item]
    except ValueError as error:  # which knows it as the only one
        raise type(error)(str(error).replace("images[0]", name, 1)) from None
    return ArraySource(tensor.detach().cpu().numpy(), name=name)


@_source.register(str)
@_source.register(Path)
def _from_path(path: str | Path, channels: int | None, name: str) -> TileSource:
    return open_source(path, channels)


@_source.register(TileSource)
def _from_source(source: TileSource, channels: int | None, name: str) -> TileSource:
    return source


@_source.register(np.ndarray)
def _from_array(array: Pixels, channels: int | None, name: str) -> TileSource:
    return ArraySource(array, name=name)
