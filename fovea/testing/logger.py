"""The contract of loggers."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from PIL import Image

from fovea.interfaces import Logger
from fovea.testing import inputs
from fovea.testing.rules import Rule, Subject, check, expect
from fovea.testing.settings import RULES as SETTINGS

_RUN = {"seed": 0, "data": {"name": "fashion", "size": [56, 56]}, "init": None, "probe": None}
_VALUES = {"loss": 1.5, "lr": 1e-4, "skipped_steps": 0, "online/knn_vit": 0.25}


@dataclass(frozen=True)
class Shown(Subject):
    """A logger under test."""

    kind: ClassVar[str] = "logger"
    sizes: ClassVar[dict[str, Any]] = dict.fromkeys(("folder", "stage", "start", "run"))

    def open(self, folder: Path, stage: str = "pretrain", start: int = 0, **run: Any) -> Logger:
        """Open it for a stage of the run in a folder."""
        run = {**_RUN, **run}
        logger: Logger = self.build(folder=folder, stage=stage, start=start, run=run)
        return logger


def check_logger(name: str, /, **settings: Any) -> None:
    """Check a registered logger against its contract, in a temporary folder.

    Args:
        name: the registered one.
        **settings: of its Config, best such that nothing is sent.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    check(Shown(name, settings), RULES)


def takes_what_a_run_gives(shown: Shown) -> None:
    """It takes numbers, warnings and pictures of a run, and closes."""
    with _run() as folder:
        _log(shown.open(folder), folder, 0)


def leaves_the_run_alone(shown: Shown) -> None:
    """It changes no file of the run, nor the numbers and settings that it is given."""
    with _run() as folder:
        before = _contents(folder)
        run, values = dict(_RUN), dict(_VALUES)
        logger: Logger = shown.build(folder=folder, stage="pretrain", start=0, run=run)
        logger.metrics(0, values)
        logger.close()
        expect(run == _RUN, "the settings of the run are changed")
        expect(values == _VALUES, "the numbers are changed")
        after = _contents(folder)
        changed = [str(file) for file, digest in before.items() if after.get(file) != digest]
        expect(not changed, f"{', '.join(changed)} is changed")


def starts_where_it_is_told(shown: Shown) -> None:
    """It starts again in the folder of a run: at a later step, and for another stage."""
    with _run() as folder:
        for stage, start in (("pretrain", 0), ("pretrain", 6), ("probe", 0)):
            _log(shown.open(folder, stage, start), folder, start)


def starts_in_a_new_folder(shown: Shown) -> None:
    """It starts where the folder of the stage is not there yet."""
    with TemporaryDirectory() as folder:
        shown.open(Path(folder)).close()


def _log(logger: Logger, folder: Path, start: int) -> None:
    for step in range(start, start + 10):
        logger.metrics(step, _VALUES)
    logger.warning(start + 3, "the features of two images are nearly equal")
    logger.picture(start + 9, "seen", folder / "seen.png")
    logger.close()


@contextmanager
def _run() -> Iterator[Path]:
    """Make a folder as a run has it when a logger opens."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pretrain").mkdir()
        (folder / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
        (folder / "pretrain" / "metrics.jsonl").write_text('{"step": 0}\n', encoding="utf-8")
        Image.fromarray(inputs.pictures()[0]).save(folder / "seen.png")
        yield folder


def _contents(folder: Path) -> dict[Path, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


RULES: tuple[Rule[Shown], ...] = (
    *SETTINGS,
    takes_what_a_run_gives,
    leaves_the_run_alone,
    starts_where_it_is_told,
    starts_in_a_new_folder,
)
