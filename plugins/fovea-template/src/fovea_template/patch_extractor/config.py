"""Settings of the extractor."""

from typing import Literal

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    sums: Literal["float32", "float64"] = Field(
        "float32", description="precision of the averages; patches are float32 in the end"
    )
