"""Logger of Weights & Biases."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fovea.interfaces import Logger
from fovea.logger.config import WandbConfig
from fovea.logger.run_id import run_id


class Wandb(Logger):
    """Logger ``wandb``: one run of Weights & Biases for the whole run, with all its stages.

    Its id is kept in the run's folder, so that a resumed run draws on. The step is a number beside
    the others, ``pretrain/step``: a resumed run repeats some steps, to the bit, and repeated points
    fall on those that are there.
    """

    Config = WandbConfig

    def __init__(
        self, config: WandbConfig, *, folder: Path, stage: str, start: int, run: Mapping[str, Any]
    ):
        if find_spec("wandb") is None:
            raise ValueError("it is not installed; pip install 'fovea-vit[wandb]'")
        import wandb

        self.stage = stage
        self.run = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=config.mode,
            dir=str(folder),
            id=run_id(folder / "wandb"),
            name=folder.name,
            resume="allow",
            config=dict(run),
            settings=wandb.Settings(quiet=True),  # no table of all metrics after each stage
        )
        self.run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self._log(step, values)

    def warning(self, step: int, text: str) -> None:
        """Raise an alert, which W&B sends on as its user's settings say."""
        self.run.alert(title=f"{self.stage}, step {step}", text=text)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Log a picture."""
        import wandb

        self._log(step, {name: wandb.Image(str(file))})

    def close(self) -> None:
        """Send what is left."""
        self.run.finish()

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        named = {f"{self.stage}/{name}": value for name, value in values.items()}
        self.run.log({**named, f"{self.stage}/step": step})
