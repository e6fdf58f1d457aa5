"""Settings of the objective."""

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    glimpses: int = Field(2, ge=1, description="S, glimpses of each of the two sequences")
    bottleneck: int = Field(64, ge=1, description="width of what is compared")
    temperature: float = Field(0.2, gt=0, description="softmax temperature of the similarities")
