"""The JSON schema of configs: ``fovea schema``; editors complete and check YAML by it."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, get_origin

from pydantic.errors import PydanticUserError
from pydantic.json_schema import models_json_schema

from fovea import registry
from fovea.config import Section
from fovea.describe import inner_sections, kind_of
from fovea.recipe import ModelConfig, Recipe
from fovea.schedule import Schedule
from fovea.zoo import list_models

_PURPOSE = "Print the JSON schema of configs, the plugins' settings included, for editors."
_DEFINED = "#/$defs/"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    argparse.ArgumentParser(prog="fovea schema", description=_PURPOSE).parse_args(argv)
    print(json.dumps(json_schema(), indent=2))
    return 0


def json_schema() -> dict[str, Any]:
    """Describe a recipe, each component by all that may stand in its place.

    A component whose settings cannot be described is named on stderr, and only its name is known.
    """
    configs = _configs()
    sections: dict[type[Section], None] = {Schedule: None}
    owners: list[type[Section]] = [Recipe, *configs.values()]
    for owner in owners:
        sections |= {section: None for _, section in inner_sections(owner)}
    found, schema = models_json_schema([(section, "validation") for section in sections])
    definitions: dict[str, Any] = schema["$defs"]  # classes that share a name have longer ones here
    names = {one: found[one, "validation"]["$ref"].removeprefix(_DEFINED) for one in sections}
    for section, name in names.items():
        _choose_components(section, definitions[name])
    whole = [name for one, name in names.items() if not hasattr(one, "from_number")]
    for section, name in names.items():
        _lay_over_defaults(section, definitions[name], whole)
    definitions |= {f"{name}.part": _part(definitions[name], whole) for name in whole}
    for kind in registry.INTERFACES:
        options = [
            _option(name, definitions[names[config]])
            for (of_kind, name), config in configs.items()
            if of_kind == kind
        ]
        bare = {"enum": registry.names(kind)}
        definitions[f"component.{kind}"] = {"oneOf": [bare, *options]}
    number_or_schedule = [{"type": "number"}, definitions[names[Schedule]]]
    definitions[names[Schedule]] = {"oneOf": number_or_schedule}
    card_or_parts = [{"enum": list_models()}, _from_card(definitions[names[ModelConfig]])]
    definitions[names[ModelConfig]] = {"oneOf": card_or_parts}
    top = definitions.pop(names[Recipe])
    return {**top, "$defs": _used(top, definitions)}


def _configs() -> dict[tuple[str, str], type[Section]]:
    """Find the Config classes of all components, by kind and name, as far as they are sound."""
    found = {}
    for one in registry.registrations():
        try:
            config = registry.config_class(one.kind, one.name)
            config.model_json_schema()
        except (registry.RegistryError, PydanticUserError) as error:
            reason = " ".join(str(error).split())
            print(f"fovea: {one.kind} '{one.name}' is not described: {reason}", file=sys.stderr)
        else:
            found[one.kind, one.name] = config
    return found


def _choose_components(section: type[Section], described: dict[str, Any]) -> None:
    """Let the keys of a section that hold components refer to all components of that kind."""
    for key, info in section.model_fields.items():
        kind = kind_of(info)
        if kind is not None:
            one: dict[str, Any] = {"$ref": f"{_DEFINED}component.{kind}"}
            many = {"type": "array", "items": one, "default": []}
            chosen = many if get_origin(info.annotation) is tuple else one
            described["properties"][key] = {**chosen, "description": info.description}


def _lay_over_defaults(
    section: type[Section], described: dict[str, Any], names: Iterable[str]
) -> None:
    """Where a field's default is a section, what is given is laid over it: no key is required."""
    for key, info in section.model_fields.items():
        if isinstance(info.default, Section):
            described["properties"][key] = _part(described["properties"][key], names)


def _part(described: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Require no key, nor any of the named sections below; what may be one number is whole."""
    text = json.dumps({key: value for key, value in described.items() if key != "required"})
    for name in names:
        text = text.replace(f'"{_DEFINED}{name}"', f'"{_DEFINED}{name}.part"')
    part: dict[str, Any] = json.loads(text)
    return part


def _option(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Describe a component that is written as its name and its settings."""
    return {
        **config,
        "properties": {"name": {"const": name}, **config.get("properties", {})},
        "required": ["name", *config.get("required", [])],
    }


def _from_card(model: dict[str, Any]) -> dict[str, Any]:
    """Require either the name of a model card or all that has no default."""
    rest = {key: value for key, value in model.items() if key != "required"}
    return {**rest, "anyOf": [{"required": ["name"]}, {"required": model["required"]}]}


def _used(top: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Keep the definitions that something refers to."""
    found: dict[str, Any] = {}
    to_do = [top]
    while to_do:
        text = json.dumps(to_do.pop())
        new = [one for one in definitions if one not in found and f'"{_DEFINED}{one}"' in text]
        found |= {one: definitions[one] for one in new}
        to_do += [definitions[one] for one in new]
    return dict(sorted(found.items()))
