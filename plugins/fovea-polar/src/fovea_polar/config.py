"""Settings of the log-polar context."""

from pydantic import Field, model_validator

from fovea.config import Section


class PolarConfig(Section):
    """Settings of ``polar``: 1 + rings * windows windows in all."""

    rings: int = Field(5, ge=1, description="rings about the window at the gaze")
    windows: int = Field(6, ge=3, description="windows of a ring, side by side")
    growth: float = Field(1.75, gt=1, description="radius and window side from a ring to the next")
    zoom: tuple[float, float] = Field(
        (3.5, 4.5),
        description="lowest and highest zoom of the innermost windows, drawn per glimpse in "
        "training",
    )
    zoom_eval: float = Field(4.0, description="zoom of the innermost windows in evaluation")

    @model_validator(mode="after")
    def _ordered(self) -> "PolarConfig":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom: the lowest comes first, found {list(self.zoom)}")
        return self
