"""A gaze policy for fovea: look where the image stands out, then elsewhere."""

from collections.abc import Callable

from fovea import hookimpl


@hookimpl
def register_gaze_policies(register: Callable[..., None]) -> None:
    """Register ``saliency``."""
    register(
        "saliency",
        "fovea_saliency.saliency:Saliency",
        config="fovea_saliency.config:SaliencyConfig",
    )
