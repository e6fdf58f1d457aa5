"""The interface of loggers, which show a run elsewhere; without torch, unlike the others."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fovea.section import Section


class Logger(ABC):
    """Shows a run elsewhere, beside the lines of ``metrics.jsonl``; one process of a run has it.

    The constructor opens what it needs. A method that raises is reported once, and the run goes on
    without the logger.
    """

    Config: ClassVar[type[Section]]

    @abstractmethod
    def __init__(
        self, config: Section, *, folder: Path, stage: str, start: int, run: Mapping[str, Any]
    ):
        """Open.

        Args:
            config: its settings.
            folder: of the whole run; what belongs to the stage goes below ``folder / stage``.
            stage: its name, such as ``pretrain``.
            start: step at which this process begins. What was logged of it and of later steps is
                done again, and should be forgotten.
            run: the resolved config of the run, as a plain tree.
        """

    @abstractmethod
    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of a step; steps count from 0 in each stage."""

    def warning(self, step: int, text: str) -> None:  # noqa: B027 - optional
        """Log what the run warns of."""

    def picture(self, step: int, name: str, file: Path) -> None:  # noqa: B027 - optional
        """Log a picture, a PNG file of the run."""

    @abstractmethod
    def close(self) -> None:
        """Finish what is still to be written or sent."""
