"""A task head of two layers, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_task_heads(register: Register) -> None:
    """Register the head."""
    register(
        "template",
        "fovea_template.task_head.task_head:TemplateHead",
        config="fovea_template.task_head.config:TemplateConfig",
    )
