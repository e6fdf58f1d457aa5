"""The registry: every component, ours and a stranger's, is a name that a plugin registered.

Plugins are found in the entry-point group ``fovea``, one at a time, so that a broken one is
reported by name and hurts nobody else. Classes are imported when they are first used.
"""

import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from fovea import hookspecs
from fovea.section import Section
from fovea.suggest import unknown

INTERFACES = {
    "patch_extractor": "PatchExtractor",
    "context_builder": "ContextBuilder",
    "backbone": "Backbone",
    "ssl_objective": "SSLObjective",
    "gaze_policy": "GazePolicy",
    "task_head": "TaskHead",
    "data_set": "DataSet",
    "logger": "Logger",
}
HOOKS = {
    kind: "register_" + (kind[:-1] + "ies" if kind.endswith("y") else kind + "s")
    for kind in INTERFACES
}


class RegistryError(ValueError):
    """A component that is unknown, or a plugin's that does not keep its promises."""


@dataclass(frozen=True)
class Plugin:
    """One entry point: its name, its address, and the distribution ('name version') it is of."""

    name: str
    address: str
    distribution: str

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution})"


@dataclass(frozen=True)
class Registration:
    """One name: what it stands for, and the plugin that brought it."""

    kind: str
    name: str
    target: str
    config: str | None
    plugin: Plugin

    @property
    def distribution(self) -> str:
        """The distribution that brought it, 'name version'."""
        return self.plugin.distribution

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of {self.distribution}"


@dataclass
class Registry:
    """All plugins: what they registered by (kind, name), which are broken and why, or disabled."""

    components: dict[tuple[str, str], Registration] = field(default_factory=dict)
    broken: dict[Plugin, str] = field(default_factory=dict)
    disabled: list[Plugin] = field(default_factory=list)

    def load(self, entry: EntryPoint) -> None:
        """Load one plugin; if anything in it is wrong, remember why and leave all of it out."""
        plugin = _plugin(entry)
        try:
            found = _registrations(entry.load(), plugin)
            for key, registration in found.items():
                if key in self.components:
                    other = self.components[key].distribution
                    raise RegistryError(
                        f"{registration.kind} '{registration.name}' is already registered by "
                        f"{other}; one of the two must take another name"
                    )
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything at all
            self.broken[plugin] = f"{type(error).__name__}: {' '.join(str(error).split())}"
            print(f"fovea: plugin {plugin} was left out: {self.broken[plugin]}", file=sys.stderr)
        else:
            self.components.update(found)


@cache
def discover() -> Registry:
    """Load all installed plugins once; FOVEA_DISABLE=name,name leaves some out."""
    registry = Registry()
    entries = sorted(entry_points(group="fovea"), key=lambda entry: entry.name != "builtin")
    if not entries or entries[0].name != "builtin":  # a checkout that is not installed
        entries.insert(0, EntryPoint("builtin", "fovea.builtin", "fovea"))
    disabled = {word.strip() for word in os.environ.get("FOVEA_DISABLE", "").split(",")} - {""}
    known = [entry.name for entry in entries]
    for word in sorted(disabled - set(known)):
        print(f"fovea: FOVEA_DISABLE: {unknown('plugin', word, known)}", file=sys.stderr)
    for entry in entries:
        if entry.name in disabled:
            registry.disabled.append(_plugin(entry))
        else:
            registry.load(entry)
    return registry


def names(kind: str) -> list[str]:
    """List the registered names of one kind."""
    return sorted(name for of_kind, name in discover().components if of_kind == _kind(kind))


def lookup(kind: str, name: str) -> Registration:
    """Find a registration.

    Raises:
        RegistryError: no such name; says which are known, which is nearest, what was left out.
    """
    registration = discover().components.get((_kind(kind), name))
    if registration is not None:
        return registration
    broken = "; ".join(f"{plugin}: {why}" for plugin, why in discover().broken.items())
    left_out = f"; left out were {broken}" if broken else ""
    raise RegistryError(unknown(kind, name, names(kind)) + left_out)


def config_class(kind: str, name: str) -> type[Any]:
    """Return a component's Config class; imports no torch where the plugin named its address."""
    registration = lookup(kind, name)
    if registration.config is not None:
        config = _resolve(registration.config, registration)
    else:
        config = component_class(kind, name).Config
    if not issubclass(config, Section):
        raise RegistryError(f"{registration}: its Config is not a fovea.config.Section")
    return config


@cache
def component_class(kind: str, name: str) -> type[Any]:
    """Import a component's class and check it against its interface."""
    registration = lookup(kind, name)
    interface = getattr(import_module("fovea.interfaces"), INTERFACES[kind])
    target = _resolve(registration.target, registration)
    if not issubclass(target, interface):
        wrong = f"is not a subclass of fovea.interfaces.{interface.__name__}"
    elif inspect.isabstract(target):
        missing = ", ".join(sorted(target.__abstractmethods__))
        wrong = f"does not implement {missing}"
    elif not isinstance(getattr(target, "Config", None), type):
        wrong = "has no class Config"
    elif registration.config and _resolve(registration.config, registration) is not target.Config:
        wrong = f"has another Config than the registered {registration.config}"
    else:
        return target
    raise RegistryError(f"{registration} {wrong}")


def _kind(kind: str) -> str:
    if kind not in INTERFACES:
        raise RegistryError(unknown("kind", kind, list(INTERFACES)))
    return kind


def _plugin(entry: EntryPoint) -> Plugin:
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    return Plugin(entry.name, entry.value, distribution)


def _registrations(module: object, plugin: Plugin) -> dict[tuple[str, str], Registration]:
    """Call the hooks of one plugin alone; a misspelt hook is an error."""
    manager = pluggy.PluginManager("fovea")
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    manager.check_pending()
    found: dict[tuple[str, str], Registration] = {}
    for kind, hook in HOOKS.items():

        def register(
            name: str, target: str, *, config: str | None = None, kind: str = kind
        ) -> None:
            _check_names(name, target, config)
            if (kind, name) in found:
                raise RegistryError(f"{kind} '{name}' is registered twice by the same plugin")
            found[kind, name] = Registration(kind, name, target, config, plugin)

        getattr(manager.hook, hook)(register=register)
    if not found:
        raise RegistryError("it registers nothing: no function is marked with @fovea.hookimpl")
    return found


def _check_names(name: str, target: str, config: str | None) -> None:
    if not name.isidentifier():
        raise RegistryError(f"'{name}' is no good name: use letters, digits and underscores")
    for address in filter(None, (target, config)):
        module, _, attribute = address.partition(":")
        if not module or not attribute:
            raise RegistryError(f"'{name}': '{address}' is not of the form 'module:Class'")


def _resolve(address: str, registration: Registration) -> type[Any]:
    """Import "module:Class"."""
    module, _, attribute = address.partition(":")
    try:
        target = getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:  # a stranger's import may raise anything at all
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise RegistryError(f"{registration} cannot be imported: {reason}") from error
    if not isinstance(target, type):
        raise RegistryError(f"{registration}: {address} is not a class")
    return target


def registrations() -> Iterator[Registration]:
    """Iterate over all registrations, by kind and name."""
    components = discover().components
    yield from (components[key] for key in sorted(components))
