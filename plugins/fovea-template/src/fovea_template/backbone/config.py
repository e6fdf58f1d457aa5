"""Settings of the backbone."""

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    width: int = Field(64, ge=1, description="D, of the state and of all tokens")
    depth: int = Field(2, ge=1, description="transformer blocks")
    heads: int = Field(4, ge=1, description="attention heads; divides the width")
    state_tokens: int = Field(4, ge=1, description="K, tokens that are carried between glimpses")
    mean: float = Field(0.5, ge=0, le=1, description="of the pixels, subtracted from each channel")
    std: float = Field(0.5, gt=0, description="of the pixels, by which each channel is divided")
