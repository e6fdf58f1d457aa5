"""Models by name: ``build_model("vits16_foveal")``, ``list_models("vits*")``, trained runs."""

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.config import validate
from fovea.recipe import ModelConfig, model_tree
from fovea.shipped import shipped_names

if TYPE_CHECKING:
    from fovea.model import FovealModel
    from fovea.trained import Trained


def list_models(pattern: str = "*") -> list[str]:
    """List model names that match a pattern such as ``vits*``."""
    return [name for name in shipped_names("model_zoo") if fnmatch(name, pattern)]


def build_model(name: str, pretrained: bool = False, **changes: Any) -> "FovealModel":
    """Build a model by name, in evaluation mode: ``build_model(name, extractor="pyramid")``.

    Args:
        name: one of ``list_models()``.
        pretrained: load published weights.
        **changes: parts of the model card replaced: a component's name, or a dict of its name and
            settings, e.g. ``context={"name": "foveal", "grid": 3}``.

    Raises:
        ConfigError: there is no such model, or a change does not fit.
        ValueError: there are no weights for it.
    """
    from fovea.model import assemble

    config = validate(ModelConfig, {**model_tree(name), **changes}, "model.")
    if pretrained:
        raise ValueError(
            f"{name}: no weights are published yet; train it, then fovea.load_model(run_dir)"
        )
    return assemble(config)


def load_model(source: str | Path) -> "FovealModel":
    """Load the model that a run trained, with its policy if it trained one, in evaluation mode.

    Args:
        source: a run_dir, or a folder that ``fovea export`` wrote; it may be remote, such as
            ``s3://bucket/model``, where a plugin opens such paths.

    Raises:
        ValueError: there is no model, or its files are damaged.
    """
    return load_trained(source).model


def load_trained(source: str | Path) -> "Trained":
    """Load what ``load_model`` does, with its task heads and the names of its classes.

    Raises:
        ValueError: there is no model, or its files are damaged.
    """
    from fovea import trained

    return trained.load_trained(source)
