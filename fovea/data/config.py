"""Settings of the data sets."""

from typing import Literal

from pydantic import Field, model_validator

from fovea.config import Section

PILLOW_LIMIT = 178_956_970
"""Pixels above which Pillow itself refuses an image as a decompression bomb."""


class FashionConfig(Section):
    """Settings of ``fashion``: garments placed in scenes, with their position known."""

    size: tuple[int, int] = Field((56, 56), description="height and width of a scene in pixels")
    garment: tuple[float, float] = Field(
        (1.0, 1.0), description="least and greatest side of the garment, share of the shorter side"
    )
    fragments: int = Field(0, ge=0, description="pieces of other garments strewn over the scene")

    @model_validator(mode="after")
    def _fits(self) -> "FashionConfig":
        if min(self.size) < 1:
            raise ValueError(f"size: expected at least 1 x 1 pixel, found {self.size}")
        if not 0 < self.garment[0] <= self.garment[1] <= 1:
            raise ValueError(f"garment: expected 0 < least <= greatest <= 1, found {self.garment}")
        return self


class FolderConfig(Section):
    """Settings of ``folder``: image files below a folder, in class folders or flat."""

    root: str = Field(description="the folder; with train/ and val/ below it, as for ImageNet")
    train: str = Field("train", description="folder of the split below root; without it, all of it")
    val: str = Field("val", description="folder of the split below root")
    test: str = Field("val", description="folder of the split below root; ImageNet tests on val")
    max_pixels: int = Field(
        PILLOW_LIMIT, ge=1, description="larger images are refused as decompression bombs"
    )
    decode: Literal["needed", "full"] = Field(
        "needed",
        description="needed: large JPEGs are decoded at 1/2, 1/4 or 1/8 where at least 2 pixels "
        "per cell remain at the finest zoom; there patches change by 1.3 of 255 on photographs "
        "(rms; 5 at worst), a zoom further out by half of that. full: all pixels",
    )
