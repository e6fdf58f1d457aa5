"""Files that ship with fovea: configs, model cards, a plugin to copy; also from a wheel."""

from functools import cache
from pathlib import Path


def shipped_names(folder: str) -> list[str]:
    """List the YAML files of ``configs`` or ``model_zoo``, without their ending."""
    return sorted(file.stem for file in _folder(folder).glob("*.yaml"))


def shipped_file(folder: str, name: str) -> Path:
    """Return the path of a shipped YAML file."""
    return _folder(folder) / f"{name}.yaml"


def template_folder() -> Path:
    """Return the folder of the plugin that new ones are copied from."""
    return _folder("fovea-template", "plugins/fovea-template")


@cache
def _folder(name: str, in_checkout: str | None = None) -> Path:
    package = Path(__file__).parent
    inside = package / name  # where the wheel puts it
    return inside if inside.is_dir() else package.parent / (in_checkout or name)
