"""A data set of drawn shapes, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_data_sets(register: Register) -> None:
    """Register the data set."""
    register(
        "template",
        "fovea_template.data_set.data_set:TemplatePictures",
        config="fovea_template.data_set.config:TemplateConfig",
    )
