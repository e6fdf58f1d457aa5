"""Typed settings: YAML and ``key=value`` become frozen, checked objects; mistakes become sentences.

A setting's default lives in its ``Section`` class and nowhere else. Where a section is a component
(``Annotated[Component, Part("backbone")]``) its ``name`` says whose settings the other keys are; a
list of components is ``Annotated[tuple[Component, ...], Part("logger")]``.
Nothing here imports torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fovea import registry
from fovea.section import Section as Section

S = TypeVar("S", bound="Section")
N = TypeVar("N", bound="float | Section")

AUTO: Literal["auto"] = "auto"
Auto = Literal["auto"]
"""A number that a run chooses: by its data, ``fovea.presets``; by its GPU, ``engine.memory``."""

# beside what both libraries raise: a number of thousands of digits, brackets in thousands
_UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError)


class Component(Section):
    """A component that a run uses: its registered name and its own validated settings."""

    name: str
    settings: Section


@dataclass(frozen=True)
class Part:
    """Marks a field as a component of one kind: ``Annotated[Component, Part("backbone")]``."""

    kind: str


class ConfigError(ValueError):
    """Everything that is wrong with a config, one line each."""

    def __init__(self, lines: Sequence[str]):
        super().__init__("\n".join(lines))
        self.lines = list(lines)


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping; duplicate keys and aliases are refused."""
    try:
        text = file.read_text(encoding="utf-8")
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # a few hundred bytes of them can hang a walk
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise ConfigError([f"{file}:{line}: YAML aliases (*name) are not allowed"])
        tree = OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {error}"]) from error
    except ConfigError:
        raise
    except _UNREADABLE as error:
        raise ConfigError([f"{file}: not valid YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise ConfigError([f"{file}: expected 'key: value' lines at the top level"])
    return {str(key): value for key, value in tree.items()}


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Read ``a.b=value`` words as a tree; values are written as in YAML."""
    wrong = [word for word in overrides if "=" not in word or word.startswith(("=", "-"))]
    if wrong:
        raise ConfigError([f"{word}: expected key=value, e.g. seed=1" for word in wrong])
    try:
        tree = OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)), resolve=True)
    except _UNREADABLE as error:
        raise ConfigError([f"{' '.join(overrides)}: {' '.join(str(error).split())}"]) from error
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree over another; where a section's ``name`` changes, its old keys are dropped."""
    if "name" in above and below.get("name", above["name"]) != above["name"]:
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, str) and under != AUTO and isinstance(value, Mapping):
            under = {"name": under}  # a component written as its bare name
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(under, value)
        else:
            merged[key] = value
    return merged


def validate(section: type[S], tree: Mapping[str, Any], where: str = "") -> S:
    """Turn a plain tree into a section.

    Raises:
        ConfigError: with every mistake in the tree, each line beginning with the full key.
    """
    lines: list[str] = []
    result = _validate(section, tree, where, lines)
    if lines:
        raise ConfigError(lines)
    return result


def number(value: N | Auto, key: str) -> N:
    """Return a setting for which ``auto`` may stand, once there is a number.

    Raises:
        ConfigError: it is still ``auto``.
    """
    if isinstance(value, str):
        raise ConfigError([f"{key}: auto is replaced in the stages of a run only; give a number"])
    return value


def to_tree(section: Section) -> dict[str, Any]:
    """Turn a section back into the plain tree that validates to it."""
    if isinstance(section, Component):
        return {"name": section.name, **to_tree(section.settings)}
    return {key: _plain(value) for key, value in section}


def to_yaml(section: Section) -> str:
    """Write a section as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(to_tree(section)))  # quotes what it would misread


def _plain(value: object) -> object:
    if isinstance(value, Section):
        return to_tree(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _validate(section: type[S], tree: object, where: str, lines: list[str]) -> S:
    """Validate children first, then the section with its children in place."""
    if not isinstance(tree, Mapping):
        found = "nothing" if tree is None else repr(tree)
        key = where.rstrip(".") or "config"
        lines.append(f"{key}: expected 'key: value' lines below it, found {found}")
        return _placeholder(section)
    values = {key: _tuples(value) for key, value in tree.items()}
    failed = set()  # children that stand as placeholders: no judging them again
    for key, info in section.model_fields.items():
        if key in values and (child := _child(info)) is not None:
            if values[key] is None and not info.is_required() and info.default is None:
                continue
            if isinstance(values[key], str) and _stand_ins(info):
                continue  # one of these, or a mistake
            before = len(lines)
            is_list = get_origin(info.annotation) is tuple
            check = _validate_each if is_list else _validate_child
            values[key] = check(child, _over_default(info, values[key]), f"{where}{key}", lines)
            if len(lines) > before:
                failed.add(key)
    try:
        return section.model_validate(values)
    except ValidationError as error:
        for details in _one_for_each_key(section, error.errors(include_url=False)):
            judges_children = details["loc"] == () or details["loc"][0] in failed
            if not (failed and judges_children):
                lines.append(_explain(section, details, where))
        return _placeholder(section)
    except AttributeError:  # a validator looked into a placeholder
        if not failed:
            raise
        return _placeholder(section)


def _over_default(info: FieldInfo, tree: object) -> object:
    """Lay some keys of a section over the field's default; what may be one number is whole."""
    default = info.default
    if isinstance(default, Section) and isinstance(tree, Mapping):
        return tree if hasattr(default, "from_number") else {**to_tree(default), **tree}
    return tree


def _placeholder(section: type[S]) -> S:
    """Stand in for a section that is wrong, so that its parent can be judged too."""
    return cast(S, section.model_construct())


def _child(info: FieldInfo) -> type[Section] | Part | None:
    """Say what a field holds: a component, a section, or a plain value."""
    for mark in info.metadata:
        if isinstance(mark, Part):
            return mark
    for option in (info.annotation, *get_args(info.annotation)):
        for mark in getattr(option, "__metadata__", ()):
            if isinstance(mark, Part):
                return mark
        if isinstance(option, type) and issubclass(option, Section):
            return option
    return None


def _validate_each(
    child: type[Section] | Part, trees: object, where: str, lines: list[str]
) -> tuple[Section, ...]:
    """Validate a list; its numbers count as keys."""
    if not isinstance(trees, tuple):
        lines.append(f"{where}: expected a list, such as [name] or [], found {trees!r}")
        return ()
    return tuple(
        _validate_child(child, one, f"{where}.{place}", lines) for place, one in enumerate(trees)
    )


def _validate_child(
    child: type[Section] | Part, tree: object, where: str, lines: list[str]
) -> Section:
    if isinstance(child, Part):
        return _validate_component(child.kind, tree, where, lines)
    shorthand = getattr(child, "from_number", None)
    if shorthand is not None and isinstance(tree, int | float) and not isinstance(tree, bool):
        tree = shorthand(tree)
    return _validate(child, tree, f"{where}.", lines)


def _validate_component(kind: str, tree: object, where: str, lines: list[str]) -> Component:
    if isinstance(tree, str):
        tree = {"name": tree}
    if not isinstance(tree, Mapping) or not isinstance(tree.get("name"), str):
        names = ", ".join(registry.names(kind))
        lines.append(f"{where}.name: required; known are {names}")
        return Component.model_construct(name="", settings=Section())
    settings = {key: value for key, value in tree.items() if key != "name"}
    try:
        config = registry.config_class(kind, tree["name"])
    except registry.RegistryError as error:
        lines.append(f"{where}.name: {error}")
        return Component.model_construct(name="", settings=Section())
    return Component(name=tree["name"], settings=_validate(config, settings, f"{where}.", lines))


def _tuples(value: object) -> object:
    """YAML has lists where our settings, being frozen, have tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _stand_ins(info: FieldInfo) -> list[str]:
    """List the words that may stand in place of a field's number or section."""
    options = get_args(info.annotation)
    words = [repr(word) for one in options if get_origin(one) is Literal for word in get_args(one)]
    return ["true", "false", *words] if bool in options else words


def _one_for_each_key(
    section: type[Section], errors: Sequence[ErrorDetails]
) -> Iterator[ErrorDetails]:
    """Join what is said of each of several types that a field may have."""
    said = set()
    for details in errors:
        key = str(next(iter(details["loc"]), ""))
        words = _stand_ins(section.model_fields[key]) if key in section.model_fields else []
        if not words:
            yield details
        elif key not in said:
            said.add(key)
            is_section = details["type"] == "model_type"
            wanted = "expected 'key: value' lines below it" if is_section else details["msg"]
            yield {**details, "loc": (key,), "msg": f"{wanted}, or {' or '.join(words)}"}


def _explain(section: type[Section], details: ErrorDetails, where: str) -> str:
    key = where + ".".join(str(part) for part in details["loc"])
    key = key.rstrip(".") or "config"
    if details["type"] == "extra_forbidden":
        known = list(section.model_fields)
        near = get_close_matches(str(details["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known) or 'none'}"
        return f"{key}: unknown key; {hint}"
    if details["type"] == "missing":
        info = section.model_fields[str(details["loc"][0])]
        return f"{key}: required ({info.description or 'no default'})"
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    field, colon, rest = message.partition(": ")
    if details["loc"] == () and colon and field in section.model_fields:
        return f"{where}{field}: {rest}"
    if details["loc"] == () or isinstance(details["input"], Section):
        return f"{key}: {message}"
    return f"{key}: {message}, found {details['input']!r}"
