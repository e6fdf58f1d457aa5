"""Logger of trackio, which keeps a run on this machine: ``trackio show``."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fovea.interfaces import Logger
from fovea.logger.config import TrackioConfig
from fovea.logger.run_id import run_id


class Trackio(Logger):
    """Logger ``trackio``: one run of trackio for the whole run, with all its stages.

    Its name ends in an id that is kept in the run's folder, so that a resumed run draws on; points
    that it repeats, to the bit, fall on those that are there.
    """

    Config = TrackioConfig

    def __init__(
        self, config: TrackioConfig, *, folder: Path, stage: str, start: int, run: Mapping[str, Any]
    ):
        if find_spec("trackio") is None:
            raise ValueError("it is not installed; pip install 'fovea-vit[trackio]'")
        import trackio

        self.stage = stage
        self.run = trackio.init(
            project=config.project,
            name=f"{folder.name}-{run_id(folder / 'trackio')}",
            resume="allow",
            config=dict(run),
        )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self._log(step, values)

    def warning(self, step: int, text: str) -> None:
        """Raise an alert, which trackio lists."""
        self.run.alert(title=self.stage, text=text, step=step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Log a picture."""
        import trackio

        self._log(step, {name: trackio.Image(str(file))})

    def close(self) -> None:
        """Write what is left."""
        self.run.finish()

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        self.run.log({f"{self.stage}/{name}": value for name, value in values.items()}, step=step)
