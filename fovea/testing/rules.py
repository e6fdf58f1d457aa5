"""What a contract is made of: a component under test, and rules, one function each.

A rule's docstring is one sentence. It is what a broken component is reported with, and what
docs/contracts.md lists.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from fovea.config import Section, validate
from fovea.parts import create
from fovea.registry import config_class, lookup
from fovea.testing.randomness import seeded


@dataclass(frozen=True)
class Subject:
    """A component under test.

    Attributes:
        name: the registered one.
        given: settings of its Config, and sizes that replace those of the kit.
        kind: the registry's word for its kind.
        sizes: what its constructor takes beside the config; small here.
    """

    name: str
    given: Mapping[str, Any]
    kind: ClassVar[str]
    sizes: ClassVar[Mapping[str, Any]] = {}

    @property
    def label(self) -> str:
        """Say which component it is, and of which distribution."""
        return f"{self.kind} '{self.name}' of {lookup(self.kind, self.name).distribution}"

    @property
    def settings(self) -> dict[str, Any]:
        """What was given for its Config."""
        return {key: value for key, value in self.given.items() if key not in self.sizes}

    def config(self) -> Section:
        """Validate the settings."""
        config: type[Section] = config_class(self.kind, self.name)
        return validate(config, self.settings, f"{self.name}.")

    def build(self, seed: int = 0, **sizes: Any) -> Any:
        """Build it; a seed draws its weights, and the global generator stays as it was."""
        with seeded(seed):
            return create(self.kind, self.name, **{**self.sizes, **self.given, **sizes})


S = TypeVar("S", bound=Subject)
Rule = Callable[[S], None]


class Broken(AssertionError):  # noqa: N818 - a test fails with it, it is no error of the run's
    """A rule is broken; the message says what was seen."""


def expect(kept: bool, seen: str) -> None:
    """Raise ``Broken`` unless a rule is kept."""
    if not kept:
        raise Broken(seen)


def sentence(rule: Callable[..., None]) -> str:
    """Return the sentence of a rule."""
    return " ".join((rule.__doc__ or "").split())


def check(subject: S, rules: Iterable[Rule[S]]) -> None:
    """Check rules one after the other.

    Raises:
        AssertionError: one is broken; the message names the component, the rule and what was seen.
        RegistryError: no component has this name.
    """
    label = subject.label
    for rule in rules:
        try:
            rule(subject)
        except Exception as error:  # a stranger's component may raise anything
            is_seen = isinstance(error, Broken)
            seen = str(error) if is_seen else f"it raised {type(error).__name__}: {error}"
            what = sentence(rule).removesuffix(".")
            raise AssertionError(f"{label}: {what}; but {' '.join(seen.split())}") from error
