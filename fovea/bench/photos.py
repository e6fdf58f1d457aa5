"""Real photographs at any size: mirrored copies side by side, at the resolution they were taken.

Enlarging a photograph would make it smooth, and every way to average it look exact.
"""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from fovea.decoding import read_image
from fovea.images import Array

_SHIPPED = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "skimage": tuple(
        f"data/{name}"
        for name in ("astronaut.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    ),
}
"""Colour photographs in the wheels of scikit-learn and scikit-image."""

Photos = dict[str, Array]
"""Photographs by name."""


def read_photos(folder: Path | None) -> Photos:
    """Read the JPEG files of a folder; without one, photographs that other packages ship.

    Raises:
        ValueError: there are none, or one cannot be read.
    """
    if folder is not None:
        files = sorted(f for f in folder.glob("*") if f.suffix.lower() in (".jpg", ".jpeg"))
        if not files:
            raise ValueError(f"{folder}: holds no .jpg or .jpeg files")
    else:
        files = [file for package in _SHIPPED for file in _shipped(package)]
        if not files:
            raise ValueError(
                "there are no photographs to measure with: pip install 'fovea-vit[bench]', or "
                "name a folder of JPEG files with --photos"
            )
    return {file.name: read_image(file).numpy() for file in files}


def mosaic(photos: Photos, side: int, first: int = 0) -> Array:
    """Fill a square from the ``first`` photograph on -> uint8 [side, side, 3].

    Photographs stand side by side, cut to the height of the lowest; below and beyond the last
    they are mirrored.
    """
    images = list(photos.values())
    height = min(image.shape[0] for image in images)
    turned = images[first % len(images) :] + images[: first % len(images)]
    strip = np.concatenate([image[:height] for image in turned], axis=1)[:side, :side]
    missing = (side - strip.shape[0], side - strip.shape[1])
    filled = np.pad(strip, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return np.ascontiguousarray(filled)


def jpeg(image: Array) -> bytes:
    """Encode as cameras do: quality 90, colour at half the resolution."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=90, subsampling="4:2:0")
    return stream.getvalue()


def decode(data: bytes) -> Image.Image:
    """Decode a JPEG as Pillow does, to its own buffer."""
    with Image.open(BytesIO(data)) as picture:
        picture.load()
        return picture


def _shipped(package: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / name for name in _SHIPPED[package]]
