"""The ``fovea`` command: train, eval, and what helps to write configs."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, get_origin

from fovea import registry
from fovea.config import ConfigError, Part, Section, to_yaml
from fovea.recipe import ModelConfig, Recipe, read_recipe
from fovea.schedule import Schedule
from fovea.train import report
from fovea.zoo import list_models

_COMMANDS = {
    "train": "train the stages of a config",
    "eval": "measure a trained run",
    "export": "write a trained model as safetensors and JSON",
    "data": "check images before training on them",
    "runs": "list runs: state, numbers, differences",
    "bench": "measure speed beside the alternatives",
    "config": "check a config and print it with all its defaults",
    "schema": "print the JSON schema of configs, for editors",
    "models": "list model names",
    "plugins": "list what is installed, and what was left out and why",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    listing = "\n".join(f"  {name:8} {text}" for name, text in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="fovea",
        description=f"commands:\n{listing}\n\n'fovea COMMAND --help' tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(_COMMANDS), metavar="COMMAND")
    arguments = parser.parse_args(words[:1])
    handlers: dict[str, Callable[[Sequence[str]], int]] = {
        "train": _train,
        "eval": _evaluate,
        "export": _export,
        "data": _data,
        "runs": _runs,
        "bench": _bench,
        "config": _config,
        "schema": _schema,
        "models": _models,
        "plugins": _plugins,
    }
    return handlers[arguments.command](words[1:])


def _train(argv: Sequence[str]) -> int:
    from fovea.train import main as train

    return train(argv)


def _evaluate(argv: Sequence[str]) -> int:
    from fovea.eval import main as evaluate

    return evaluate(argv)


def _export(argv: Sequence[str]) -> int:
    from fovea.export import main as export

    return export(argv)


def _data(argv: Sequence[str]) -> int:
    from fovea.data.command import main as data

    return data(argv)


def _runs(argv: Sequence[str]) -> int:
    from fovea.runs import main as runs

    return runs(argv)


def _bench(argv: Sequence[str]) -> int:
    from fovea.bench.command import main as bench

    return bench(argv)


def _config(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fovea config", description=_COMMANDS["config"])
    parser.add_argument("config", metavar="CONFIG", help="YAML file, or name of a shipped one")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="changed settings")
    arguments = parser.parse_intermixed_args(argv)
    try:
        print(to_yaml(read_recipe(arguments.config, arguments.overrides)), end="")
    except ConfigError as error:
        return report(error.lines)
    return 0


def _schema(argv: Sequence[str]) -> int:
    argparse.ArgumentParser(prog="fovea schema", description=_COMMANDS["schema"]).parse_args(argv)
    print(json.dumps(_json_schema(Recipe), indent=2))
    return 0


def _models(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fovea models", description=_COMMANDS["models"])
    parser.add_argument("pattern", nargs="?", default="*", help="such as 'vits*'")
    print("\n".join(list_models(parser.parse_args(argv).pattern)))
    return 0


def _plugins(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fovea plugins", description=_COMMANDS["plugins"])
    parser.parse_args(argv)
    for one in registry.registrations():
        print(f"{one.kind:16} {one.name:16} {one.distribution:20} {one.target}")
    for label, reason in registry.discover().broken.items():
        print(f"left out: {label}: {reason}")
    return 0


def _json_schema(section: type[Section]) -> dict[str, Any]:
    """Describe a section, each component by all that may stand in its place."""
    schema = section.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    owners = {"": section.model_fields}
    owners |= {one.__name__: one.model_fields for one in _sections(section)}
    for owner, fields in owners.items():
        described = definitions[owner] if owner else schema
        for key, info in fields.items():
            marks = [mark for mark in info.metadata if isinstance(mark, Part)]
            if marks:
                one: dict[str, Any] = {"oneOf": _options(marks[0].kind, definitions)}
                many = {"type": "array", "items": one, "default": []}
                found = many if get_origin(info.annotation) is tuple else one
                described["properties"][key] = {**found, "description": info.description}
    definitions.pop("Component", None)
    for name, found in list(definitions.items()):
        if name == Schedule.__name__:
            definitions[name] = {"oneOf": [{"type": "number"}, found]}
        elif name == ModelConfig.__name__:  # a model card may give what is not written
            definitions[name] = {"oneOf": [{"enum": list_models()}, _from_card(found)]}
    return schema


def _options(kind: str, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """List what may stand for a component: a bare name, or a name and its settings."""
    options: list[dict[str, Any]] = [{"enum": registry.names(kind)}]
    for name in registry.names(kind):
        option: dict[str, Any] = registry.config_class(kind, name).model_json_schema()
        definitions.update(option.pop("$defs", {}))  # references count from the root
        option["properties"] = {"name": {"const": name}, **option.get("properties", {})}
        option["required"] = ["name", *option.get("required", [])]
        options.append(option)
    return options


def _from_card(model: dict[str, Any]) -> dict[str, Any]:
    """Require either the name of a model card or all that has no default."""
    rest = {key: value for key, value in model.items() if key != "required"}
    return {**rest, "anyOf": [{"required": ["name"]}, {"required": model["required"]}]}


def _sections(section: type[Section]) -> list[type[Section]]:
    """List the sections below one."""
    found: list[type[Section]] = []
    for info in section.model_fields.values():
        options = [info.annotation, *getattr(info.annotation, "__args__", ())]
        for option in options:
            is_section = isinstance(option, type) and issubclass(option, Section)
            if is_section and option not in found:
                found += [option, *_sections(option)]
    return found


if __name__ == "__main__":
    sys.exit(main())
