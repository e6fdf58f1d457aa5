"""Write decode.md: what decoding no more than is seen saves, and what it changes.

``python docs/benchmarks/decode.py [FOLDER]`` needs scikit-image and scikit-learn, for their
photographs; FOLDER adds your own JPEGs.
"""

import io
import math
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import skimage.data
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from fovea import create, geometry
from fovea.decoding import read_image
from fovea.images import Array

P, ROUNDS, WINDOWS, CELLS = 16, 21, 150, (1.0, 1.5, 2.0, 3.0)
SIZES = {"2 MP": (1200, 1600), "8 MP": (2448, 3264), "12 MP": (3000, 4000), "24 MP": (4000, 6000)}
READERS = {"pretraining, zoom 4.97": math.log2(7 / 0.05**0.5), "other stages, zoom 4.5": 4.5}
NAMES = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")
EXTRACTOR = create("patch_extractor", "integral", patch_size=P)
HEAD = """\
# Decoding no more than is seen

Written by `python docs/benchmarks/decode.py [FOLDER]`: {date}, {machine}, one thread.

A model whose closest windows have zoom z sees no more than 16 * 2^z cells along the shorter side
of an image. `folder` therefore has JPEGs decoded at 1/2, 1/4 or 1/8 where at least {cell:g} pixels
per cell are left, unless `data.decode=full`. Other formats, and smaller images, are decoded whole.

## What it saves

Thread CPU time, whole divided by reduced: medians of {rounds} rounds in which they take turns.
Table and memory are those of the extractor `integral`. "Needed" is the shorter side in pixels that
the paper's recipe takes; the photograph shows a garden, and is tiled with its mirror images.

| photograph | read by | needed | decoded | decode | table | memory |
|---|---|---|---|---|---|---|
"""
CHANGES = """
## What it changes

Pixels of patches, whole against reduced, in 1/255, for windows inside the image and all three
scales, where the finest cells are just as many reduced pixels wide as stated. In use they are up
to twice as wide, since scales are powers of two. A reduced pixel is the mean of those it stands
for, so that patches change because cells end within reduced pixels; a little is added where sizes
are no multiples of the scale, and the reduced image is resampled to a whole size. At the border, a
cell that only just touches the image may come to lie outside. With the extractor's mode `nearest`,
which rounds cells to whole pixels, patches change 2 to 4 times as much.

| photographs | pixels per cell | rms | 99.9 % below | largest | worst rms | one zoom out | two |
|---|---|---|---|---|---|---|---|
"""


def main(folder: Path | None) -> None:
    """Measure, print the page, and write it beside this script."""
    torch.set_num_threads(1)
    photos = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    photos |= {name: getattr(skimage.data, name)() for name in NAMES}  # [H, W, 3], 0.2 to 2 MP
    machine, cell = platform.processor() or platform.machine(), geometry.PIXELS_PER_CELL
    text = HEAD.format(date=date.today(), machine=machine, cell=cell, rounds=ROUNDS)
    for name, size in SIZES.items():
        text += _savings(name, _jpeg(photos["china"], *size))
    text += CHANGES
    for height, width, kind in (1248, 1680, "multiples of 8"), (1251, 1677, "odd sizes"):
        made = [_jpeg(photo, height, width) for photo in photos.values()]
        text += _changes(f"{len(made)} sharp ones of 2 MP, {kind}", made)
    if folder:
        own = [file.read_bytes() for file in sorted(folder.rglob("*.jpg"))]
        text += _changes(f"{len(own)} of {folder.name}", own)
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


def _savings(name: str, data: bytes) -> str:
    """Time decoding and the table, whole and for each reader: rows of the first table."""
    sides = [geometry.needed_side(zoom, P) for zoom in READERS.values()]
    rounds = [[_time(data, side) for side in (None, *sides)] for _ in range(ROUNDS)]
    H, W, _ = _decode(data).shape
    rows = ""
    for i, (reader, side) in enumerate(zip(READERS, sides, strict=True), 1):
        decode, table = (median(one[0][k] / one[i][k] for one in rounds) for k in (0, 1))
        h, w, _ = _decode(data, side).shape
        rows += f"| {name}, {H} x {W} | {reader} | {side} | {h} x {w} | {decode:.1f}x "
        rows += f"| {table:.1f}x | {(H + 1) * (W + 1) / (h + 1) / (w + 1):.1f}x |\n"
    return rows


def _time(data: bytes, side: int | None) -> tuple[float, float]:
    """Measure seconds of the thread to decode, and to build the table."""
    start = time.thread_time()
    image = _decode(data, side)
    decoded = time.thread_time()
    EXTRACTOR.prepare([image.numpy()])
    return decoded - start, time.thread_time() - decoded


def _changes(name: str, photos: list[bytes]) -> str:
    """Compare patches of photographs: rows of the second table."""
    found = defaultdict(list)
    for data in photos:
        for key, difference in _differences(data):
            found[key].append(difference)
    rows = ""
    for cell in CELLS:
        finest, out, two = (torch.cat(found[cell, zoom]).numpy() for zoom in (0, 1, 2))
        worst = max(_rms(difference.numpy()) for difference in found[cell, 0])
        rows += f"| {name} | {cell:g} | {_rms(finest):.1f} | {np.quantile(finest, 0.999):.0f} "
        rows += f"| {finest.max():.0f} | {worst:.1f} | {_rms(out):.1f} | {_rms(two):.1f} |\n"
    return rows


def _differences(data: bytes) -> Iterator[tuple[tuple[float, int], Tensor]]:
    """Read patches of the whole and of each reduced image: ((cell, zooms out), differences)."""
    whole = _decode(data)
    m = min(whole.shape[:2])
    scene = EXTRACTOR.prepare([whole.numpy()])
    generator = torch.Generator().manual_seed(0)
    for scale in (2, 4, 8):
        reduced = EXTRACTOR.prepare([_decode(data, m // scale).numpy()])
        for cell in CELLS:
            finest = math.log2(m // scale / (P * cell))
            for out in range(min(3, math.floor(finest) + 1)):
                area = 4.0 ** (out - finest)
                windows = geometry.draw_crops(scene.sizes, 1, (area, area), WINDOWS, generator)
                difference = scene.read(windows[:, :, 0]) - reduced.read(windows[:, :, 0])
                yield (cell, out), difference.abs().flatten() * 255


def _rms(difference: Array) -> float:
    return float(np.sqrt(np.square(difference, dtype=np.float64).mean()))


def _decode(data: bytes, side: int | None = None) -> Tensor:
    return read_image(io.BytesIO(data), shorter_side=side, name="photograph")


def _jpeg(image: Array, height: int, width: int) -> bytes:
    """Repeat an image with its mirror images to a size, and encode it."""
    beyond = [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1])), (0, 0)]
    stream = io.BytesIO()
    tiled = np.pad(image, beyond, "symmetric")[:height, :width]
    Image.fromarray(tiled).save(stream, "JPEG", quality=90)
    return stream.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
