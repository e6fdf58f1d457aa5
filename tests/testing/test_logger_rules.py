"""For each rule of loggers, one that breaks it, and is caught."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from testing.strangers import Settings, assert_caught, assert_passes

from fovea.config import Section
from fovea.interfaces import Logger
from fovea.testing import logger as rules
from fovea.testing.rules import Rule
from fovea.testing.settings import RULES as SETTINGS


class Plain(Logger):
    """Writes lines to a file of its own."""

    Config = Settings

    def __init__(
        self, config: Section, *, folder: Path, stage: str, start: int, run: Mapping[str, Any]
    ):
        self.folder = folder
        (folder / stage).mkdir(exist_ok=True)
        self.file = (folder / stage / "lines.txt").open("a")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.file.write(f"{step} {dict(values)}\n")

    def close(self) -> None:
        self.file.close()


class Shy(Plain):
    def picture(self, step: int, name: str, file: Path) -> None:
        self.close()
        raise NotImplementedError


class Greedy(Plain):
    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        (self.folder / "pretrain" / "metrics.jsonl").write_text("mine")


class Changing(Plain):
    def metrics(self, step: int, values: Any) -> None:
        values["step"] = step


class Tidy(Plain):
    """Begins anew wherever something is."""

    def __init__(
        self, config: Section, *, folder: Path, stage: str, start: int, run: Mapping[str, Any]
    ):
        (folder / "mine").mkdir()
        super().__init__(config, folder=folder, stage=stage, start=start, run=run)


class Hopeful(Plain):
    """Expects that the stage has a folder."""

    def __init__(
        self, config: Section, *, folder: Path, stage: str, start: int, run: Mapping[str, Any]
    ):
        folder.joinpath("config.yaml").read_text()
        super().__init__(config, folder=folder, stage=stage, start=start, run=run)


BROKEN: list[tuple[type, Rule]] = [
    (Shy, rules.takes_what_a_run_gives),
    (Greedy, rules.leaves_the_run_alone),
    (Changing, rules.leaves_the_run_alone),
    (Tidy, rules.starts_where_it_is_told),
    (Hopeful, rules.starts_in_a_new_folder),
]


def test_a_plain_one_passes() -> None:
    assert_passes("logger", Plain)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of files that nobody closes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("logger", target, rule)


def test_every_rule_has_one_that_breaks_it() -> None:
    assert {rule for _, rule in BROKEN} | set(SETTINGS) == set(rules.RULES)
