"""Settings of the slides."""

from typing import Literal

from pydantic import Field, model_validator

from fovea.config import Section

CELLS = 16
"""Cells of the tissue mask along a region's side."""


class WsiConfig(Section):
    """Settings of ``wsi``: slides and TIFFs below a folder, in class folders or flat."""

    root: str = Field(description="the folder of the slides")
    train: str = Field("train", description="folder of the split below root; without it, all of it")
    val: str = Field("val", description="folder of the split below root")
    test: str = Field("test", description="folder of the split below root")
    shares: tuple[float, float, float] | None = Field(
        None, description="shares of the slides in train, val and test, drawn; none: by folders"
    )
    split_seed: int = Field(0, ge=0, description="seed of that draw")
    unit: Literal["region", "slide"] = Field(
        "region", description="region: squares of slides that hold tissue; slide: whole slides"
    )
    region: int = Field(
        4096,
        ge=CELLS,
        multiple_of=CELLS,
        description="side of a region, in pixels of the finest level",
    )
    tissue: float = Field(
        0.25, ge=0, le=1, description="least share of a region that is tissue; 0: all regions"
    )
    saturation: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="colour saturation from which a place is tissue; none: by Otsu, slide by slide",
    )

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> "WsiConfig":
        if self.shares is None:
            self._keep("split_seed", "needs shares")
        else:
            for folder in ("train", "val", "test"):
                self._keep(folder, "names no folder beside shares")
            if min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
                raise ValueError(f"shares: expected three that add up to 1, found {self.shares}")
        if self.unit == "slide":
            for key in ("region", "tissue", "saturation"):
                self._keep(key, "has no effect with unit=slide")
        if self.tissue == 0:
            self._keep("saturation", "has no effect with tissue=0")
        return self

    def _keep(self, key: str, why: str) -> None:
        """Refuse a setting that would change nothing."""
        if getattr(self, key) != type(self).model_fields[key].default:
            raise ValueError(f"{key}: {why}; leave it out")
