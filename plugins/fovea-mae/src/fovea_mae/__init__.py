"""Masked autoencoding of glimpses, an SSL objective for fovea."""

from collections.abc import Callable

from fovea import hookimpl


@hookimpl
def register_ssl_objectives(register: Callable[..., None]) -> None:
    """Register ``mae``."""
    register("mae", "fovea_mae.mae:MaskedAutoencoder", config="fovea_mae.config:MaeConfig")
