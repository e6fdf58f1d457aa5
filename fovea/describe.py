"""Settings in words: the keys of a section, their types, defaults and meanings, and its places.

Words of YAML stand in backquotes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from fovea.config import Part, Section
from fovea.schedule import Schedule


@dataclass(frozen=True)
class Setting:
    """One key of a section, each part in words."""

    key: str
    type: str
    default: str
    meaning: str


def settings(section: type[Section]) -> list[Setting]:
    """Describe the keys of a section, in their order."""
    return [
        Setting(key, _type(info), _default(info), info.description or "")
        for key, info in section.model_fields.items()
    ]


def inner_sections(section: type[Section], path: str = "") -> Iterator[tuple[str, type[Section]]]:
    """List a section and all below it, each with its path, such as ``head.``; no schedules."""
    yield path, section
    for key, info in section.model_fields.items():
        child = _child(info)
        if kind_of(info) is None and child is not None and child is not Schedule:
            yield from inner_sections(child, f"{path}{key}.")


def places(section: type[Section], kind: str) -> list[str]:
    """List the keys below a section at which a component of a kind is chosen."""
    return [
        path + key
        for path, inner in inner_sections(section)
        for key, info in inner.model_fields.items()
        if kind_of(info) == kind
    ]


def kind_of(info: FieldInfo) -> str | None:
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


def _type(info: FieldInfo) -> str:
    kind = kind_of(info)
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
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    plain = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return plain.get(annotation, str(annotation))  # a stranger's own type has its own name


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if default is None:
        return "none"
    if isinstance(default, Section) and not default.model_fields_set:
        return "its defaults"
    return f"`{_flow(default)}`"


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
