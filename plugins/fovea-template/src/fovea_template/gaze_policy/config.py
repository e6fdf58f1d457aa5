"""Settings of the policy."""

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    std: float = Field(
        0.15, gt=0, description="standard deviation of the gaze, 0..1 of the image's sides"
    )
