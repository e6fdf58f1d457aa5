"""Settings of the contexts."""

from pydantic import Field, model_validator

from fovea.config import Section

_ZOOMS = Field(
    (0.0, 1.0, 2.0, 3.0, 4.0),
    min_length=1,
    description="zooms of the concentric windows; 0 spans the shorter side of the image",
)


class MultiZoomConfig(Section):
    """Settings of ``multizoom``."""

    zooms: tuple[float, ...] = _ZOOMS


class FovealConfig(Section):
    """Settings of ``foveal``."""

    zooms: tuple[float, ...] = _ZOOMS
    grid: int = Field(5, ge=1, description="windows per side of the foveal grid")
    grid_zoom: tuple[float, float] = Field(
        (3.0, 4.5), description="lowest and highest zoom of the grid, drawn per glimpse in training"
    )
    grid_zoom_eval: float = Field(4.0, description="zoom of the grid in evaluation")

    @model_validator(mode="after")
    def _ordered(self) -> "FovealConfig":
        if self.grid_zoom[0] > self.grid_zoom[1]:
            raise ValueError(f"grid_zoom: the lowest comes first, found {list(self.grid_zoom)}")
        return self


class GridConfig(Section):
    """Settings of ``grid``."""

    grid: int = Field(16, ge=1, description="windows per side of the grid over the whole image")
