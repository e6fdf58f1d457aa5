"""What glimpses at slides cost, by the size of the slide.

``python -m fovea_wsi.measure`` writes synthetic slides to a temporary folder, reads the windows of
eight glimpses of the model ``vits16_foveal`` at each, whole and at one region of it, and prints a
table. Slides have just been written: their files are in memory, and times are those of decoding and
averaging.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

import fovea
from fovea.extract.files import open_source
from fovea.extract.tiles import Pixels, TileSource
from fovea.interfaces import ContextBuilder, PatchExtractor
from fovea_wsi.crop import Crop
from fovea_wsi.synthetic import Synthetic

GLIMPSES = 8
REGION = 4096
_REPEATS = 5
_HEADER = """\
| slide, pixels | scene | decoded whole, MB | tiles read | decoded, MB | ms |
|---|---|---|---|---|---|"""


class Counted(TileSource):
    """Another source, whose tiles are counted as they are decoded."""

    def __init__(self, source: TileSource):
        self.source, self.name = source, source.name
        self.levels, self.channels, self.dtype = source.levels, source.channels, source.dtype
        self.tiles = self.bytes = 0

    def read(self, level: int, top: int, left: int, bottom: int, right: int) -> Pixels:
        """Read a tile, and count it."""
        pixels = self.source.read(level, top, left, bottom, right)
        self.tiles += 1
        self.bytes += pixels.nbytes
        return pixels


def measure(file: Path, side: int, whole: bool) -> str:
    """Make glimpses at a slide, or at a region in its middle: -> a row of the table."""
    extractor: PatchExtractor = fovea.create("patch_extractor", "pyramid", channels=3)
    context = fovea.create(
        "context_builder", "foveal", zooms=[0, 1, 2, 3, 4], grid=5, grid_zoom=[3.0, 4.5],
        grid_zoom_eval=4.0,
    )  # fmt: skip
    seconds, counted = [], Counted(open_source(file))
    for _ in range(_REPEATS):
        start = time.perf_counter()
        counted = Counted(open_source(file))
        corner = (side - REGION) // 2 // REGION * REGION
        region = Crop(counted, corner, corner, REGION, REGION, "region")
        _look(extractor, context, counted if whole else region)
        seconds.append(time.perf_counter() - start)
    scene = "whole slide" if whole else f"region of {REGION:,}"
    return (
        f"| {side:,} x {side:,} | {scene} | {side * side * 3 / 1e6:,.0f} | {counted.tiles} "
        f"| {counted.bytes / 1e6:.1f} | {1000 * median(seconds):.0f} |"
    )


def _look(extractor: PatchExtractor, context: ContextBuilder, image: TileSource) -> None:
    """Read the windows of a few glimpses, one after the other, as a sequence does."""
    scene = extractor.prepare([image])
    generator = torch.Generator().manual_seed(0)
    for _ in range(GLIMPSES):
        gaze = torch.rand(1, 2, generator=generator)
        scene.read(context.windows(gaze, scene.sizes, None))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fovea_wsi.measure", description="Measure glimpses at synthetic slides."
    )
    parser.add_argument("sides", type=int, nargs="*", default=[10240, 20480, 40960])
    print(_HEADER, flush=True)
    torch.set_num_threads(1)
    for side in parser.parse_args(argv).sides:
        with tempfile.TemporaryDirectory(prefix="fovea-wsi-") as folder:
            file = Path(folder) / "slide.tif"
            Synthetic(side).write(file)
            for whole in (True, False):
                print(measure(file, side, whole), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
