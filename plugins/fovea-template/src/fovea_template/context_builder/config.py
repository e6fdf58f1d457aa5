"""Settings of the context."""

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    count: int = Field(16, ge=2, description="windows on the spiral")
    radius: float = Field(
        0.5, gt=0, description="of the spiral, as a share of the image's shorter side"
    )
    zoom: float = Field(3.0, description="zoom of the window at the gaze")
    fall: float = Field(2.0, ge=0, description="by how much the zoom of the outermost is lower")
