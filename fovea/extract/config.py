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


class ResizeConfig(Section):
    """Settings of ``resize``: none."""
