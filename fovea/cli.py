"""The ``fovea`` command: train, eval, and what helps to write configs."""

import argparse
import sys
from collections.abc import Callable, Sequence

from fovea.config import ConfigError, to_yaml
from fovea.recipe import read_recipe
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
    "plugins": "list what is installed and what was left out; show the settings of a component",
    "new-plugin": "write a plugin that works, to start from",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    listing = "\n".join(f"  {name:10} {text}" for name, text in _COMMANDS.items())
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
        "new-plugin": _new_plugin,
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
    from fovea.schema import main as schema

    return schema(argv)


def _models(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fovea models", description=_COMMANDS["models"])
    parser.add_argument("pattern", nargs="?", default="*", help="such as 'vits*'")
    print("\n".join(list_models(parser.parse_args(argv).pattern)))
    return 0


def _plugins(argv: Sequence[str]) -> int:
    from fovea.plugins import main as plugins

    return plugins(argv)


def _new_plugin(argv: Sequence[str]) -> int:
    from fovea.new_plugin import main as new_plugin

    return new_plugin(argv)


if __name__ == "__main__":
    sys.exit(main())
