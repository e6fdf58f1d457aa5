"""Print the reference tables of docs/configs.md from the Config classes: all keys, in order.

``python docs/generate_configs.py --write`` puts them in place; a test holds the page to them.
"""

import sys
from pathlib import Path

from fovea import registry
from fovea.config import Section
from fovea.describe import inner_sections, places, settings
from fovea.recipe import Recipe
from fovea.schedule import Schedule

PAGE = Path(__file__).with_name("configs.md")
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"


def main() -> None:
    """Print the reference, or write it into the page."""
    if "--write" not in sys.argv[1:]:
        print(reference(), end="")
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + reference() + END + after, encoding="utf-8")


def reference() -> str:
    """Write all tables: the sections of a recipe, the schedule, our components by kind."""
    text = "".join(_section(_titles(paths), one) for one, paths in _by_section(Recipe).items())
    text += _section("A schedule", Schedule)
    for kind in registry.INTERFACES:
        where = ", ".join(f"`{path}`" for path in places(Recipe, kind))
        text += f"### Components: {kind}\n\nChosen by name at {where}.\n\n"
        for one in registry.registrations():
            if one.kind == kind and one.plugin.name == "builtin":
                text += _component(kind, one.name)
    return text


def _by_section(section: type[Section]) -> dict[type[Section], list[str]]:
    """Find the sections below one, each with all its paths."""
    found: dict[type[Section], list[str]] = {}
    for path, inner in inner_sections(section):
        found.setdefault(inner, []).append(path.rstrip("."))
    return found


def _component(kind: str, name: str) -> str:
    """Write one component's keys, and below them those of its inner sections."""
    purpose = (registry.component_class(kind, name).__doc__ or "").splitlines()[0]
    (config, _), *inner = _by_section(registry.config_class(kind, name)).items()
    text = f"#### `{name}`\n\n{_markdown(purpose)}\n\n{_table(config)}"
    for section, paths in inner:
        text += f"##### `{name}`: {_titles(paths)}\n\n{_paragraph(section)}\n\n{_table(section)}"
    return text


def _section(title: str, section: type[Section]) -> str:
    return f"### {title}\n\n{_paragraph(section)}\n\n{_table(section)}"


def _titles(paths: list[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths) if paths != [""] else "The top level"


def _table(section: type[Section]) -> str:
    if not section.model_fields:
        return "No keys.\n\n"
    rows = "".join(
        f"| `{one.key}` | {one.type} | {one.default} | {_markdown(one.meaning)} |\n"
        for one in settings(section)
    )
    return f"| key | type | default | meaning |\n|---|---|---|---|\n{rows}\n"


def _paragraph(section: type[Section]) -> str:
    text = (section.__doc__ or "").strip().splitlines()
    return _markdown(" ".join(" ".join(text).split()))


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    main()
