"""Settings of the task heads."""

from pydantic import Field

from fovea.config import Section


class LinearConfig(Section):
    """Settings of ``linear``: none."""


class TransformerConfig(Section):
    """Settings of ``transformer``."""

    heads: int = Field(6, ge=1, description="attention heads; divides the state's width")
