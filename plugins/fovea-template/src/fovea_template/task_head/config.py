"""Settings of the head."""

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    hidden: int = Field(64, ge=1, description="width of the hidden layer")
