"""Settings of the data set."""

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    images: int = Field(500, ge=1, description="pictures of each split")
    side: int = Field(56, ge=8, description="height and width of a picture in pixels")
