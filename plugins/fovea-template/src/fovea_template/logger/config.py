"""Settings of the logger."""

from pydantic import Field

from fovea.config import Section


class TemplateConfig(Section):
    """Settings of ``template``."""

    file: str = Field("template.jsonl", description="name of the file in the folder of each stage")
