"""Components that are registered for one test, and what the kit must say of a broken one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fovea import registry, testing
from fovea.config import Section
from fovea.testing.rules import sentence


class Settings(Section):
    """No settings."""


@contextmanager
def registered(kind: str, target: type, config: str | None = None) -> Iterator[str]:
    """Register a class of a test module, which a function may have made, under its own name."""
    setattr(sys.modules[target.__module__], target.__name__, target)
    registry.component_class.cache_clear()
    components = registry.discover().components
    ours = registry.lookup(kind, registry.names(kind)[0])
    name, address = target.__name__, f"{target.__module__}:{target.__name__}"
    components[kind, name] = replace(ours, name=name, target=address, config=config)
    try:
        yield name
    finally:
        del components[kind, name]
        registry.component_class.cache_clear()


def assert_passes(kind: str, target: type, **settings: object) -> None:
    with registered(kind, target) as name:
        getattr(testing, f"check_{kind}")(name, **settings)


def assert_caught(
    kind: str,
    target: type,
    rule: Callable[..., None],
    config: str | None = None,
    **settings: object,
) -> None:
    """Check a component that keeps all rules before this one and breaks it."""
    with registered(kind, target, config) as name, pytest.raises(AssertionError) as caught:
        getattr(testing, f"check_{kind}")(name, **settings)
    said = str(caught.value)
    what = sentence(rule).removesuffix(".")
    assert said.startswith(f"{kind} '{name}' of fovea-vit "), said
    assert f": {what}; but " in said, said
    assert "\n" not in said
