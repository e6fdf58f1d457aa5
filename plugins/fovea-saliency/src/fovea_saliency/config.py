"""Settings of the saliency policy."""

from typing import Annotated

from pydantic import Field

from fovea.config import Section


class SaliencyConfig(Section):
    """Settings of ``saliency``. What the paper leaves open is our choice."""

    grid: int = Field(
        2, ge=1, description="windows per side of the square that is read once, grid**2 in all"
    )
    scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.03, 0.06, 0.12),
        min_length=1,
        description="standard deviations of the centres, share of the longer side",
    )
    surround: float = Field(
        3.0, gt=1, description="standard deviation of a surround, in those of its centre"
    )
    sharpness: float = Field(
        4.0, gt=0, description="power of the saliency to which a gaze is drawn there"
    )
    inhibition: float = Field(
        0.15,
        gt=0,
        description="standard deviation about a gaze of what is then left out, share of the "
        "shorter side",
    )
    recovery: float = Field(
        0.5, ge=0, lt=1, description="share of that which has come back by the next glimpse"
    )
