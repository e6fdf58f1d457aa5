"""A context for fovea: log-polar rings of windows about the gaze."""

from collections.abc import Callable

from fovea import hookimpl


@hookimpl
def register_context_builders(register: Callable[..., None]) -> None:
    """Register ``polar``."""
    register("polar", "fovea_polar.polar:Polar", config="fovea_polar.config:PolarConfig")
