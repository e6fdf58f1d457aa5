"""A logger that writes JSON lines, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_loggers(register: Register) -> None:
    """Register the logger."""
    register(
        "template",
        "fovea_template.logger.logger:TemplateLogger",
        config="fovea_template.logger.config:TemplateConfig",
    )
