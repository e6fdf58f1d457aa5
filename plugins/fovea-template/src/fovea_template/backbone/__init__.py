"""A small transformer as a backbone, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_backbones(register: Register) -> None:
    """Register the backbone."""
    register(
        "template",
        "fovea_template.backbone.backbone:TemplateBackbone",
        config="fovea_template.backbone.config:TemplateConfig",
    )
