"""Models by name: ``build_model("vits16_foveal")``, ``list_models("vits*")``, trained runs."""

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.config import validate
from fovea.recipe import ModelConfig, model_tree
from fovea.shipped import shipped_names

if TYPE_CHECKING:
    from fovea.model import FovealModel


def list_models(pattern: str = "*") -> list[str]:
    """List model names that match a pattern such as ``vits*``."""
    return [name for name in shipped_names("model_zoo") if fnmatch(name, pattern)]


def build_model(name: str, pretrained: bool = False) -> "FovealModel":
    """Build a model by name, in evaluation mode.

    Args:
        name: one of ``list_models()``.
        pretrained: load published weights.

    Raises:
        ConfigError: there is no such model.
        ValueError: there are no weights for it.
    """
    from fovea.model import assemble

    config = validate(ModelConfig, model_tree(name), "model.")
    if pretrained:
        raise ValueError(
            f"{name}: no weights are published yet; train it, then fovea.load_model(run_dir)"
        )
    return assemble(config)


def load_model(run_dir: str | Path) -> "FovealModel":
    """Load the model that a run trained, with its policy if it trained one, in evaluation mode.

    Raises:
        ValueError: the folder holds no finished stage, or weights that do not fit.
    """
    from fovea.trained import load_trained

    return load_trained(Path(run_dir)).model
