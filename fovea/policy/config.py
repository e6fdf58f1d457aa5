"""Settings of the gaze policies."""

from pydantic import Field, model_validator

from fovea.config import Section
from fovea.schedule import Schedule


class RandomConfig(Section):
    """Settings of ``random``."""

    low: float = Field(0.0, description="least x and y, 0..1")
    high: float = Field(1.0, description="greatest x and y, 0..1")

    @model_validator(mode="after")
    def _ordered(self) -> "RandomConfig":
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")
        return self


class MixtureConfig(Section):
    """Settings of ``gmm``. What the paper leaves open (M, the schedule) is our choice."""

    components: int = Field(4, ge=1, description="M, Gaussians in the mixture")
    depth: int = Field(6, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; divides the state's width")
    std: Schedule = Field(
        Schedule(start=0.2, end=0.07),
        description="standard deviation of each component over training, 0..1 of the image",
    )
