"""What is installed: ``fovea plugins`` lists it, ``fovea plugins show NAME`` tells its settings."""

import argparse
import sys
from collections.abc import Sequence

from fovea import registry
from fovea.describe import Setting, inner_sections, places, settings
from fovea.recipe import Recipe
from fovea.registry import Registration, RegistryError
from fovea.suggest import unknown

_EPILOG = """\
Without a command: every plugin with its distribution, its hooks and the names they registered;
then what was left out and why, and what FOVEA_DISABLE=plugin,plugin turned off.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        lines = show(arguments.name, arguments.kind) if arguments.command else overview()
    except RegistryError as error:
        print(f"fovea: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


def overview() -> list[str]:
    """List the plugins, what each registered, and which are left out or disabled."""
    found = registry.discover()
    lines = []
    plugins = {one.plugin for one in found.components.values()}
    for plugin in sorted(plugins, key=lambda one: (one.name != "builtin", str(one))):
        lines += [f"{plugin.name}: {plugin.distribution}, module {plugin.address}"]
        own = [one for one in registry.registrations() if one.plugin == plugin]
        for kind, hook in registry.HOOKS.items():
            names = [one.name for one in own if one.kind == kind]
            if names:
                lines.append(f"  {hook:26} {', '.join(names)}")
    lines += [f"left out: {plugin}: {reason}" for plugin, reason in found.broken.items()]
    lines += [f"disabled by FOVEA_DISABLE: {plugin}" for plugin in found.disabled]
    return lines


def show(name: str, kind: str | None = None) -> list[str]:
    """Tell all about the components of a name, or of a plugin of that name.

    Raises:
        RegistryError: nothing is called so, or it cannot be used; says why.
    """
    found = [one for one in registry.registrations() if name in (one.name, one.plugin.name)]
    if kind is not None:
        found = [one for one in found if one.kind == kind] or [registry.lookup(kind, name)]
    if not found:
        raise RegistryError(_absent(name))
    return [line for one in found for line in ["", *_component(one)]][1:]


def _component(one: Registration) -> list[str]:
    """Describe a component: whose it is, where a config chooses it, and its settings."""
    config = registry.config_class(one.kind, one.name)
    rows = [
        Setting(f"{path}{row.key}", row.type, row.default, row.meaning)
        for path, section in inner_sections(config)
        for row in settings(section)
    ]
    return [
        f"{one.kind} {one.name}",
        f"  plugin     {one.plugin}",
        f"  class      {one.target}",
        f"  chosen at  {', '.join(places(Recipe, one.kind))}",
        f"  settings   {'none' if not rows else 'key, type, default, meaning'}",
        *_columns(rows),
    ]


def _columns(rows: Sequence[Setting]) -> list[str]:
    """Write settings in columns."""
    cells = [[one.key, one.type, one.default, one.meaning] for one in rows]
    plain = [[cell.replace("`", "") for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
    return [
        "    "
        + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in plain
    ]


def _absent(name: str) -> str:
    """Say why nothing of that name can be shown."""
    found = registry.discover()
    for plugin, reason in found.broken.items():
        if plugin.name == name:
            return f"plugin {plugin} was left out: {reason}"
    for plugin in found.disabled:
        if plugin.name == name:
            return f"plugin {plugin} is disabled by FOVEA_DISABLE"
    known = {word for one in registry.registrations() for word in (one.name, one.plugin.name)}
    return unknown("component or plugin", name, sorted(known))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fovea plugins",
        description="List what is installed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    one = commands.add_parser("show", help="tell a component's class, place and settings")
    one.add_argument("name", metavar="NAME", help="a component's, or a plugin's: all of its own")
    one.add_argument(
        "--kind", metavar="KIND", help="where components of several kinds are so called"
    )
    return parser
