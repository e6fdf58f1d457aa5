"""An extractor that samples its cells, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_patch_extractors(register: Register) -> None:
    """Register the extractor."""
    register(
        "template",
        "fovea_template.patch_extractor.patch_extractor:TemplateExtractor",
        config="fovea_template.patch_extractor.config:TemplateConfig",
    )
