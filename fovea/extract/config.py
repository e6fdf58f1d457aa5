"""Settings of the patch extractors."""

from typing import Literal

from pydantic import Field

from fovea.config import Section


class IntegralConfig(Section):
    """Settings of ``integral``."""

    mode: Literal["exact", "nearest"] = Field(
        "exact",
        description="exact: sub-pixel area average; nearest: cell edges rounded (the paper's)",
    )
    table: Literal["auto", "cv2", "torch"] = Field(
        "auto",
        description="builds tables of uint8 images on the CPU; auto: cv2 where it is installed; "
        "on CUDA `reader` decides",
    )
    reader: Literal["auto", "numba", "triton", "torch"] = Field(
        "auto",
        description="reads patches of uint8 images; auto: numba or, on CUDA, triton if installed, "
        "which then builds their tables too",
    )


class ResizeConfig(Section):
    """Settings of ``resize``: none."""


class PyramidConfig(Section):
    """Settings of ``pyramid``."""

    pixels_per_cell: float = Field(
        2.0,
        ge=1,
        description="fewest pixels of a coarser level along the side of the cell that they are "
        "averaged to; twice as many: 4 times as many read, half the error",
    )
    cache_mb: int = Field(
        256, ge=0, description="decoded tiles kept per scene, for files, in MB (10^6 bytes)"
    )
    scratch_dir: str | None = Field(
        None,
        description="folder for the coarser levels of large images that bring none, a third of "
        "the image's decoded bytes (of a JPEG or PNG 4/3); none: the system's temporary folder",
    )
