"""Foveal vision transformers: images of any size, seen in a few glimpses of fixed cost.

Nothing here imports torch until it is used, so ``import fovea`` is instant.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fovea.hookspecs import hookimpl as hookimpl
    from fovea.parts import create as create
    from fovea.zoo import build_model as build_model
    from fovea.zoo import list_models as list_models
    from fovea.zoo import load_model as load_model
    from fovea.zoo import load_trained as load_trained

try:
    __version__ = version("fovea-vit")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_HOMES = {
    "build_model": "fovea.zoo",
    "list_models": "fovea.zoo",
    "load_model": "fovea.zoo",
    "load_trained": "fovea.zoo",
    "create": "fovea.parts",
    "hookimpl": "fovea.hookspecs",
}
__all__ = [
    "__version__",
    "build_model",
    "create",
    "hookimpl",
    "list_models",
    "load_model",
    "load_trained",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fovea' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
