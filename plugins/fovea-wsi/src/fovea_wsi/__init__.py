"""Whole slides and huge TIFFs as scenes, for fovea."""

from fovea import hookimpl
from fovea.hookspecs import Register


@hookimpl
def register_data_sets(register: Register) -> None:
    """Register the data set."""
    register("wsi", "fovea_wsi.wsi:Wsi", config="fovea_wsi.config:WsiConfig")
