"""Print the reference tables of docs/configs.md from the Config classes: all keys, in order.

``python docs/generate_configs.py --write`` puts them in place; a test holds the page to them.
"""

import sys
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fovea import registry
from fovea.config import Part, Section
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
    places: dict[type[Section], list[str]] = {}
    parts: dict[str, list[str]] = {}
    _walk(Recipe, "", places, parts)
    text = "".join(_section(_titles(paths), section) for section, paths in places.items())
    text += _section("A schedule", Schedule)
    for kind in registry.INTERFACES:
        where = ", ".join(f"`{path}`" for path in parts[kind])
        text += f"### Components: {kind}\n\nChosen by name at {where}.\n\n"
        for one in registry.registrations():
            if one.kind == kind and one.distribution.split()[0] == "fovea-vit":
                text += _component(kind, one.name)
    return text


def _walk(
    section: type[Section],
    path: str,
    places: dict[type[Section], list[str]],
    parts: dict[str, list[str]],
) -> None:
    """Find the sections below one and the components they hold, with all their paths."""
    places.setdefault(section, []).append(path.rstrip("."))
    for key, info in section.model_fields.items():
        kind = _kind(info)
        child = _child(info)
        if kind is not None:
            parts.setdefault(kind, []).append(path + key)
        elif child not in (None, Schedule):
            assert child is not None
            _walk(child, f"{path}{key}.", places, parts)


def _component(kind: str, name: str) -> str:
    """Write one component's keys, and below them those of its inner sections."""
    purpose = (registry.component_class(kind, name).__doc__ or "").splitlines()[0]
    places: dict[type[Section], list[str]] = {}
    _walk(registry.config_class(kind, name), "", places, {})
    (config, _), *inner = places.items()
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
        f"| `{key}` | {_type(info)} | {_default(info)} | {_markdown(info.description or '')} |\n"
        for key, info in section.model_fields.items()
    )
    return f"| key | type | default | meaning |\n|---|---|---|---|\n{rows}\n"


def _type(info: FieldInfo) -> str:
    kind = _kind(info)
    if kind is None:
        return _words(info.annotation)
    is_list = get_origin(info.annotation) is tuple
    return f"list of components: {kind}" if is_list else f"component: {kind}"


def _words(annotation: Any) -> str:
    """Say a type in the words of YAML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is tuple:
        return "[" + ", ".join("..." if a is ... else _words(a) for a in arguments) + "]"
    if arguments:
        return " or ".join(_words(one) for one in arguments if one is not NoneType)
    if annotation is Schedule:
        return "number or schedule"
    if issubclass(annotation, Section):
        return "section"
    return {str: "text", int: "integer", float: "number", bool: "true or false"}[annotation]


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    if info.default is None:
        return "none"
    if isinstance(info.default, Section) and not info.default.model_fields_set:
        return "its defaults"
    return f"`{_flow(info.default)}`"


def _flow(value: Any) -> str:
    """Write a default as YAML in one line; numbers to four digits."""
    if isinstance(value, Section):
        keys = (key for key in type(value).model_fields if key in value.model_fields_set)
        return "{" + ", ".join(f"{key}: {_flow(getattr(value, key))}" for key in keys) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.4g}"
    text: str = yaml.safe_dump(value, default_flow_style=True)
    return text.splitlines()[0]


def _kind(info: FieldInfo) -> str | None:
    """Name the kind of component that a field holds."""
    for mark in info.metadata:
        if isinstance(mark, Part):
            return mark.kind
    return None


def _child(info: FieldInfo) -> type[Section] | None:
    for option in (info.annotation, *get_args(info.annotation)):
        if isinstance(option, type) and issubclass(option, Section):
            return option
    return None


def _paragraph(section: type[Section]) -> str:
    text = (section.__doc__ or "").strip().splitlines()
    return _markdown(" ".join(" ".join(text).split()))


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    main()
