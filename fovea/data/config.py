"""Settings of the data sets."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fovea.config import Section

Split = Literal["train", "val", "test"]

PILLOW_LIMIT = 178_956_970
"""Pixels above which Pillow itself refuses an image as a decompression bomb."""

TRAIN = "train"
"""What a train split is called unless it is set; only so, where it is missing, may all be taken."""

MaxPixels = Annotated[
    int, Field(ge=1, description="larger images are refused as decompression bombs")
]
Decode = Annotated[
    Literal["needed", "full"],
    Field(
        description="needed: large JPEGs are decoded at 1/2, 1/4 or 1/8 where at least 2 pixels "
        "per cell remain at the finest zoom; there patches change by 1.3 of 255 on photographs "
        "(rms; 5 at worst), a zoom further out by half of that. full: all pixels"
    ),
]


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
    train: str = Field(TRAIN, description="folder of the split below root; without it, all of it")
    val: str = Field("val", description="folder of the split below root")
    test: str = Field("val", description="folder of the split below root; ImageNet tests on val")
    max_pixels: MaxPixels = PILLOW_LIMIT
    decode: Decode = "needed"


class ShardsConfig(Section):
    """Settings of ``shards``: images in tar files, such as those of webdataset."""

    root: str = Field(description="the folder of the shards, or a single .tar file")
    train: str = Field(
        TRAIN,
        description="shards of the split, below root: a folder, how their names begin, or a "
        "pattern with *, {a,b} and {000..146}; without any, all of them",
    )
    val: str = Field("val", description="shards of the split, likewise")
    test: str = Field("val", description="shards of the split; ImageNet tests on val")
    max_pixels: MaxPixels = PILLOW_LIMIT
    decode: Decode = "needed"


class HuggingFaceConfig(Section):
    """Settings of ``hugging_face``: rows of a dataset of the library ``datasets``."""

    path: str = Field(
        description="what save_to_disk wrote, a folder of parquet files or one of them, or a name "
        "on the hub"
    )
    subset: str | None = Field(None, description="configuration of a dataset that has several")
    train: str = Field("train", description="name of the split")
    val: str = Field("validation", description="name of the split")
    test: str = Field("validation", description="name of the split; ImageNet's test has no labels")
    image: str = Field("image", description="column of the images")
    label: str | None = Field("label", description="column of the labels; null for none")
    max_pixels: MaxPixels = PILLOW_LIMIT
    decode: Decode = "needed"
