"""Files that ship with fovea: configs and model cards, in a checkout as in an installed wheel."""

from functools import cache
from pathlib import Path


def shipped_names(folder: str) -> list[str]:
    """List the YAML files of ``configs`` or ``model_zoo``, without their ending."""
    return sorted(file.stem for file in _folder(folder).glob("*.yaml"))


def shipped_file(folder: str, name: str) -> Path:
    """Return the path of a shipped YAML file."""
    return _folder(folder) / f"{name}.yaml"


@cache
def _folder(name: str) -> Path:
    package = Path(__file__).parent
    inside = package / name  # where the wheel puts it
    return inside if inside.is_dir() else package.parent / name
