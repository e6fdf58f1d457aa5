"""Settings of masked autoencoding."""

from pydantic import Field, model_validator

from fovea.config import Section
from fovea.objective.config import CropConfig


class DecoderConfig(Section):
    """The transformer that tells hidden patches from the state."""

    width: int = Field(128, ge=1, description="width")
    depth: int = Field(2, ge=1, description="blocks")
    heads: int = Field(4, ge=1, description="attention heads; divides the width")

    @model_validator(mode="after")
    def _divides(self) -> "DecoderConfig":
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide the width {self.width}")
        return self


class MaeConfig(Section):
    """Settings of ``mae``."""

    glimpses: int = Field(8, ge=1, description="S, glimpses of a sequence")
    global_crop: CropConfig = Field(
        CropConfig(grid=14, scale=(0.32, 1.0)), description="the global view, beside the sequence"
    )
    hidden: float = Field(
        0.75, gt=0, lt=1, description="share of the windows of each look that are hidden"
    )
    pixels: int = Field(
        8,
        ge=1,
        description="side in pixels of what is predicted of a patch, which is averaged to it; "
        "divides model.patch_size",
    )
    decoder: DecoderConfig = Field(DecoderConfig(), description="from the state to pixels")
