"""An objective that tells images apart, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_ssl_objectives(register: Register) -> None:
    """Register the objective."""
    register(
        "template",
        "fovea_template.ssl_objective.ssl_objective:TemplateObjective",
        config="fovea_template.ssl_objective.config:TemplateConfig",
    )
