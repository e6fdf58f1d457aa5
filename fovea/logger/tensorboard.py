"""Logger of TensorBoard's event files."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fovea.interfaces import Logger
from fovea.logger.config import TensorBoardConfig


class TensorBoard(Logger):
    """Logger ``tensorboard``: event files in each stage's folder.

    A resumed run marks where it begins, and TensorBoard forgets what came after that step.
    """

    Config = TensorBoardConfig

    def __init__(
        self,
        config: TensorBoardConfig,
        *,
        folder: Path,
        stage: str,
        start: int,
        run: Mapping[str, Any],
    ):
        if find_spec("tensorboard") is None:
            raise ValueError("it is not installed; pip install 'fovea-vit[tensorboard]'")
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.stage = stage
        self.writer = SummaryWriter(str(folder / stage / "tensorboard"), purge_step=start)
        self.writer.add_text("config", f"```\n{json.dumps(run, indent=2)}\n```", start)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers, at once: what a killed process held back would be missing for ever."""
        for name, value in values.items():
            self.writer.add_scalar(f"{self.stage}/{name}", value, step)
        self.writer.flush()

    def warning(self, step: int, text: str) -> None:
        """Write a warning as text."""
        self.writer.add_text(f"{self.stage}/warning", text, step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Write a picture."""
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self.writer.add_image(f"{self.stage}/{name}", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()
