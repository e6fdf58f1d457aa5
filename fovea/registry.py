"""The registry: every component, ours and a stranger's, is a name that a plugin registered.

Plugins are found in the entry-point group ``fovea``, one at a time, so that a broken one is
reported by name and hurts nobody else. Classes are imported when they are first used.
"""

import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from fovea import hookspecs
from fovea.section import Section

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
class Registration:
    """One name: what it stands for, and the distribution ('name version') that brought it."""

    kind: str
    name: str
    target: str
    config: str | None
    distribution: str


@dataclass
class Registry:
    """What all plugins registered, by (kind, name), and which plugins are broken, and why."""

    components: dict[tuple[str, str], Registration] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def load(self, plugin: EntryPoint) -> None:
        """Load one plugin; if anything in it is wrong, remember why and leave all of it out."""
        version = f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist else "unknown"
        label = f"{plugin.name} ({version})"
        try:
            found = _registrations(plugin.load(), version)
            for key, registration in found.items():
                if key in self.components:
                    other = self.components[key].distribution
                    raise RegistryError(
                        f"{registration.kind} '{registration.name}' is already registered by "
                        f"{other}; one of the two must take another name"
                    )
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything at all
            reason = " ".join(str(error).split())
            self.broken[label] = f"{type(error).__name__}: {reason}"
            print(f"fovea: plugin {label} was left out: {self.broken[label]}", file=sys.stderr)
        else:
            self.components.update(found)


@cache
def discover() -> Registry:
    """Load all installed plugins once; FOVEA_DISABLE=name,name leaves some out."""
    disabled = {name.strip() for name in os.environ.get("FOVEA_DISABLE", "").split(",")}
    registry = Registry()
    plugins = sorted(entry_points(group="fovea"), key=lambda plugin: plugin.name != "builtin")
    for plugin in plugins:
        if plugin.name not in disabled:
            registry.load(plugin)
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
    near = get_close_matches(name, names(kind), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    broken = "; ".join(f"{label}: {why}" for label, why in discover().broken.items())
    raise RegistryError(
        f"no {kind} is called '{name}'; {hint}known are {', '.join(names(kind)) or 'none'}"
        + (f"; left out were {broken}" if broken else "")
    )


def config_class(kind: str, name: str) -> type[Any]:
    """Return a component's Config class; imports no torch where the plugin named its address."""
    registration = lookup(kind, name)
    if registration.config is not None:
        config = _resolve(registration.config, registration)
    else:
        config = component_class(kind, name).Config
    if not issubclass(config, Section):
        raise RegistryError(f"{_label(registration)}: its Config is not a fovea.config.Section")
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
    raise RegistryError(f"{_label(registration)} {wrong}")


def _kind(kind: str) -> str:
    if kind not in INTERFACES:
        raise RegistryError(f"no kind '{kind}'; known are {', '.join(INTERFACES)}")
    return kind


def _registrations(plugin: object, version: str) -> dict[tuple[str, str], Registration]:
    """Call the hooks of one plugin alone; a misspelt hook is an error."""
    manager = pluggy.PluginManager("fovea")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()
    found: dict[tuple[str, str], Registration] = {}
    for kind, hook in HOOKS.items():

        def register(
            name: str, target: str, *, config: str | None = None, kind: str = kind
        ) -> None:
            _check_names(name, target, config)
            if (kind, name) in found:
                raise RegistryError(f"{kind} '{name}' is registered twice by the same plugin")
            found[kind, name] = Registration(kind, name, target, config, version)

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
        raise RegistryError(f"{_label(registration)} cannot be imported: {reason}") from error
    if not isinstance(target, type):
        raise RegistryError(f"{_label(registration)}: {address} is not a class")
    return target


def _label(registration: Registration) -> str:
    return f"{registration.kind} '{registration.name}' of {registration.distribution}"


def registrations() -> Iterator[Registration]:
    """Iterate over all registrations, by kind and name."""
    components = discover().components
    yield from (components[key] for key in sorted(components))
