"""A folder of small synthetic slides, of two classes and two splits."""

from pathlib import Path

import pytest
from fovea_wsi.synthetic import Synthetic

SIDE = 1024


def slide(number: int) -> Synthetic:
    """Describe a slide; tiles are small, so that regions lie across them."""
    return Synthetic(SIDE, seed=number, kind=number % 2, tile=64)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number, split in enumerate(("train", "train", "val", "val")):
        file = folder / split / ("pink", "violet")[number % 2] / f"{number}.tif"
        file.parent.mkdir(parents=True)
        slide(number).write(file, compression="deflate")
    return folder
