"""A context of windows on a spiral, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_context_builders(register: Register) -> None:
    """Register the context."""
    register(
        "template",
        "fovea_template.context_builder.context_builder:TemplateContext",
        config="fovea_template.context_builder.config:TemplateConfig",
    )
