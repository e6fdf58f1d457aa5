"""Write a plugin that works, to start from: ``fovea new-plugin NAME --kind KIND``.

It is the part of ``plugins/fovea-template`` that is of this kind, under another name.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import yaml

from fovea import registry
from fovea.describe import places
from fovea.recipe import Recipe
from fovea.shipped import template_folder

_EPILOG = f"""\
Kinds: {", ".join(registry.INTERFACES)}.
What is written can be installed, tested and trained with at once; then change it into yours.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        made = new_plugin(arguments.name, arguments.kind, arguments.folder)
    except (ValueError, OSError) as error:
        print(f"fovea: {error}", file=sys.stderr)
        return 2
    print(f"""{made} is a working {arguments.kind}. Next:
  pip install -e {made}
  python -m pytest {made}
  python -m fovea.train {made}/train.yaml""")
    return 0


def new_plugin(name: str, kind: str, folder: Path) -> Path:
    """Write the plugin ``fovea-NAME`` below a folder; return its own.

    Raises:
        ValueError: the name is taken or cannot be used, the kind is unknown, or the folder exists.
    """
    _check_name(name, kind)
    made = folder / _distribution(name)
    if made.exists():
        raise ValueError(f"{made} exists; choose another name or --folder")
    source, module = f"src/fovea_template/{kind}", f"src/fovea_{name}"
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "new_plugin.md",
        "train.yaml": f"configs/{kind}.yaml",
        f"tests/test_{name}.py": f"tests/test_{kind}.py",
        f"{module}/__init__.py": f"{source}/__init__.py",
        f"{module}/config.py": f"{source}/config.py",
        f"{module}/{kind}.py": f"{source}/{kind}.py",
        f"{module}/py.typed": "src/fovea_template/py.typed",
    }
    for path, of_template in files.items():
        text = (template_folder() / of_template).read_text(encoding="utf-8")
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text(_renamed(text, name, kind), encoding="utf-8")
    return made


def _renamed(text: str, name: str, kind: str) -> str:
    """Give a file of the template the new name; what speaks of other kinds is dropped."""
    others = "|".join(one for one in registry.INTERFACES if one != kind)
    text = re.sub(rf"^template_({others}) = .*\n", "", text, flags=re.MULTILINE)
    words = {
        f"plugins/fovea-template/configs/{kind}.yaml": f"{_distribution(name)}/train.yaml",
        f"fovea_template.{kind}": f"fovea_{name}",
        f"template_{kind}": name,
        "fovea-template": _distribution(name),
        "Template": "".join(word.capitalize() for word in name.split("_")),
        "template": name,
        "KIND": kind,
        "PLACES": ", ".join(f"`{place}`" for place in places(Recipe, kind)),
    }
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)


def _check_name(name: str, kind: str) -> None:
    """Refuse a name that Python, YAML or pip would stumble over, or that another has."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ValueError(
            f"'{name}' is no good name: use small letters, digits and single underscores, "
            "such as log_polar"
        )
    if yaml.safe_load(name) != name:
        raise ValueError(f"'{name}' is no good name: YAML reads it as {yaml.safe_load(name)}")
    if name in registry.names(kind):
        raise ValueError(
            f"{registry.lookup(kind, name)} is registered already; choose another name"
        )
    for one in entry_points(group="fovea"):
        owner = one.dist.name if one.dist else "unknown"
        if name == one.name or _distribution(name) == owner:
            raise ValueError(f"'{name}' is taken by the plugin {one.name} of {owner}")


def _distribution(name: str) -> str:
    return f"fovea-{name.replace('_', '-')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fovea new-plugin",
        description="Write a plugin that works, to start from.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "name", metavar="NAME", help="of the component: small letters, such as ring"
    )
    parser.add_argument("--kind", required=True, metavar="KIND", help="what it is to be, see below")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="in which fovea-NAME is made (.)"
    )
    return parser
