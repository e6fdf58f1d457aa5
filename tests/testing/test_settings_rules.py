"""For each rule of settings and constructors, a context that breaks it, and is caught."""

from pathlib import Path

import pytest
import torch
from pydantic import ConfigDict, Field
from testing.strangers import Settings, assert_caught, assert_passes
from torch import Tensor

from fovea import testing
from fovea.config import Section
from fovea.interfaces import ContextBuilder
from fovea.registry import RegistryError
from fovea.testing import settings as rules


class Plain(ContextBuilder):
    """One window of the whole image."""

    Config = Settings
    num_windows = 1
    finest_zoom = 0.0

    def __init__(self, config: Section):
        self.config = config

    def windows(self, gaze: Tensor, sizes: Tensor, generator: torch.Generator | None) -> Tensor:
        place = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64, device=gaze.device)
        return place.expand(len(gaze), 1, 3)


class WithoutWindows(ContextBuilder):
    Config = Settings


class WithAnArgument(Plain):
    def __init__(self, config: Section, *, radius: float):
        super().__init__(config)


class WithoutAConfig(Plain):
    def __init__(self, *, config: Section):
        super().__init__(config)


class WithUndescribed(Plain):
    class Config(Section):
        count: int = 3


class Bare(Plain):
    Config = Section


class Inner(Section):
    deep: int = 3


class WithUndescribedBelow(Plain):
    class Config(Section):
        inner: Inner = Field(Inner(), description="a section")


class Thawed(Plain):
    class Config(Section):
        model_config = ConfigDict(frozen=False)
        count: int = Field(3, description="a number")


class Lenient(Plain):
    class Config(Section):
        model_config = ConfigDict(extra="ignore")


class Forgetful(Plain):
    class Config(Section):
        kind: type[Section] = Field(Settings, description="no plain value")


BROKEN = [
    (WithoutWindows, rules.keeps_its_interface),
    (WithAnArgument, rules.takes_the_documented_arguments),
    (WithoutAConfig, rules.takes_the_documented_arguments),
    (WithUndescribed, rules.describes_its_settings),
    (WithUndescribedBelow, rules.describes_its_settings),
    (Thawed, rules.freezes_its_settings),
    (Lenient, rules.refuses_unknown_settings),
    (Forgetful, rules.writes_its_settings),
]


def test_a_plain_component_passes() -> None:
    assert_passes("context_builder", Plain)


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: object) -> None:
    assert_caught("context_builder", target, rule)


def test_wrong_settings_are_caught() -> None:
    assert_caught("context_builder", Plain, rules.has_valid_settings, no_such_key=1)


def test_a_config_beside_torch_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("")  # imported by the rule's process alone, which saves time
    (tmp_path / "stranger.py").write_text("import torch\nfrom fovea.config import Section")
    monkeypatch.syspath_prepend(tmp_path)
    rule = rules.checks_settings_without_torch
    assert_caught("context_builder", Bare, rule, "stranger:Section")


def test_every_rule_has_one_that_breaks_it() -> None:
    tested = {rule for _, rule in BROKEN}
    apart = {rules.has_valid_settings, rules.checks_settings_without_torch}
    assert tested | apart == set(rules.RULES)


def test_an_unknown_name_is_said_as_everywhere() -> None:
    with pytest.raises(RegistryError, match="no context_builder is called 'fovael'; did you mean"):
        testing.check_context_builder("fovael")
