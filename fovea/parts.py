"""Components made from their names: with settings at hand, or validated as part of a config."""

import inspect
from typing import Any

from fovea.config import Component, ConfigError, validate
from fovea.registry import component_class, config_class


def create(kind: str, name: str, **settings: Any) -> Any:
    """Create a component by name: ``create("patch_extractor", "integral", patch_size=16)``.

    Args:
        kind: one of ``fovea.registry.INTERFACES``.
        name: a registered name.
        **settings: fields of its Config, and what its constructor asks for beside the config.

    Raises:
        RegistryError: no such kind or name.
        ConfigError: settings that are wrong.
    """
    config = config_class(kind, name)
    target = component_class(kind, name)
    parameters = inspect.signature(target.__init__).parameters.values()
    sizes = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
    required = {one.name for one in parameters if one.name in sizes and one.default is one.empty}
    missing = required - set(settings)
    if missing:
        raise ConfigError([f"{kind} {name}: needs {', '.join(sorted(missing))}"])
    chosen = {key: value for key, value in settings.items() if key not in sizes}
    given = {key: value for key, value in settings.items() if key in sizes}
    return target(validate(config, chosen, f"{name}."), **given)


def part(kind: str, component: Component, **sizes: object) -> Any:
    """Build one component from its validated settings and the sizes it asks for."""
    return component_class(kind, component.name)(component.settings, **sizes)
