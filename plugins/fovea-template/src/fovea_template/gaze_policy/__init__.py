"""A gaze policy of one Gaussian, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_gaze_policies(register: Register) -> None:
    """Register the policy."""
    register(
        "template",
        "fovea_template.gaze_policy.gaze_policy:TemplatePolicy",
        config="fovea_template.gaze_policy.config:TemplateConfig",
    )
