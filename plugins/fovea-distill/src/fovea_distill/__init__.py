"""Distilling a frozen timm model into glimpses, an SSL objective for fovea."""

from collections.abc import Callable

from fovea import hookimpl


@hookimpl
def register_ssl_objectives(register: Callable[..., None]) -> None:
    """Register ``distill``."""
    register(
        "distill", "fovea_distill.distill:Distill", config="fovea_distill.config:DistillConfig"
    )
