"""Measure glimpses at an image of a gigapixel that is never read whole, beside a small one.

Usage: python docs/benchmarks/gigapixel.py [SIDE]    (needs the extra ``bench`` for its photographs)

Writes SIDE x SIDE pixels of mirrored photographs (by default 32768) to a temporary .npy file, reads
glimpses through the extractor ``pyramid``, prints and writes docs/benchmarks/gigapixel.md.
"""

import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch

import fovea
from fovea.bench.machine import describe, one_thread
from fovea.bench.photos import mosaic, read_photos
from fovea.bench.timing import Effort, interleave, ratio
from fovea.interfaces import Scene

PAGE = Path(__file__).with_suffix(".md")
SMALL, BLOCK = 448, 2048
ZOOMS = {"default zooms, 0 to 4": {}, "zooms to single pixels, 0 to 11": {"zooms": list(range(12))}}


def main() -> None:
    """Measure and write."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 32768
    photos = read_photos(None)
    with tempfile.TemporaryDirectory() as folder, one_thread(), torch.inference_mode():
        file = Path(folder) / "gigapixel.npy"
        write_mosaic(file, mosaic(photos, BLOCK), side)
        before = anonymous_mb()
        with Watch() as watch:
            start = time.thread_time()
            extractor = fovea.create("patch_extractor", "pyramid")
            large = extractor.prepare(file)
            built = time.thread_time() - start
            small = extractor.prepare(mosaic(photos, SMALL))
            rows = [(name, *growth(small, large, settings)) for name, settings in ZOOMS.items()]
    page = PAGE_TEXT.format(
        today=date.today(),
        processor=describe()["processor"],
        side=side,
        gigapixels=side**2 / 1e9,
        megabytes=3 * side**2 / 1e6,
        seconds=built,
        peak=watch.peak,
        start=before,
        rows="\n".join(f"| {name} | {warm:.2f} | {new:.2f} |" for name, warm, new in rows),
    )
    PAGE.write_text(page, encoding="utf-8")
    print(page)


def write_mosaic(file: Path, block: np.ndarray, side: int) -> None:
    """Tile a block with its mirror images, a band at a time."""
    out = np.lib.format.open_memmap(file, "w+", np.uint8, (side, side, 3))
    pair = np.concatenate([block, block[:, ::-1]], axis=1)
    band = np.tile(pair, (1, -(-side // pair.shape[1]), 1))[:, :side]
    for i, top in enumerate(range(0, side, BLOCK)):
        out[top : top + BLOCK] = (band if i % 2 == 0 else band[::-1])[: side - top]
    out.flush()


def growth(small: Scene, large: Scene, settings: dict[str, list[int]]) -> tuple[float, float]:
    """Compare a glimpse at both images: at gazes seen before, and at new ones."""
    context = fovea.create("context_builder", "foveal", **settings)
    gazes = torch.rand(400, 1, 2, generator=torch.Generator().manual_seed(0))

    def look(scene: Scene, gaze: torch.Tensor) -> None:
        scene.read(context.windows(gaze, scene.sizes, None))

    tasks = {
        "small": lambda i: look(small, gazes[i % 8]),
        "large": lambda i: look(large, gazes[i % 8]),
        "new": lambda i: look(large, gazes[8 + i]),
    }
    samples = interleave(tasks, Effort(rounds=100, fewest=20, seconds=20.0))
    return ratio(samples, "large", "small"), ratio(samples, "new", "small")


class Watch:
    """Keeps the highest anonymous memory, in MB, that it sees while it is entered."""

    def __enter__(self) -> "Watch":
        self.peak, self.done = anonymous_mb(), Event()
        self.thread = Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, anonymous_mb())


def anonymous_mb() -> float:
    """Return the process's anonymous memory, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(line for line in lines if line.startswith("RssAnon")).split()[1]
    return int(kilobytes) / 1e3


PAGE_TEXT = """\
# A gigapixel, never read whole

Written by `python docs/benchmarks/gigapixel.py`: {today}, {processor}, one thread.

An image of {side} x {side} pixels ({gigapixels:.2f} gigapixels, {megabytes:,.0f} MB in colour)
lies in a `.npy` file that the extractor `pyramid` maps. The file has no coarser levels, so
`prepare` built them once, in {seconds:.0f} s of processor time. Through it all the process held at
most {peak:.0f} MB of anonymous memory, {start:.0f} MB of them before it began. The file was in the
system's page cache.

Time of a glimpse at it, 16 x 16 pixels a window, in glimpses at an image of 448 x 448 with the
same extractor (medians over rounds in which they take turns):

| context `foveal` | gazes seen before | new gazes |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
