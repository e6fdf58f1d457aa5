"""The page on contracts says each rule as the kit does."""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from fovea.registry import INTERFACES
from fovea.testing import modules, settings
from fovea.testing.rules import Rule, sentence

PAGE = Path(__file__).parents[2] / "docs" / "contracts.md"
SHARED = [*settings.RULES, *modules.RULES]
SECTIONS: dict[str, Sequence[Rule]] = {
    "All kinds": settings.RULES,
    "Networks": modules.RULES,
    **{
        f"`check_{kind}`": [
            rule for rule in import_module(f"fovea.testing.{kind}").RULES if rule not in SHARED
        ]
        for kind in INTERFACES
    },
}


@pytest.mark.parametrize("section", SECTIONS)
def test_rules_of_a_section_are_those_of_the_kit(section: str) -> None:
    text = PAGE.read_text(encoding="utf-8").partition(f"### {section}\n")[2].partition("\n##")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert rows == [(rule.__name__, sentence(rule)) for rule in SECTIONS[section]]


def test_every_rule_is_one_sentence() -> None:
    for rules in SECTIONS.values():
        for rule in rules:
            assert sentence(rule).endswith("."), rule
            assert ". " not in sentence(rule), rule
