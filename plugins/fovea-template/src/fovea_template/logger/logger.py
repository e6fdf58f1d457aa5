"""A logger that writes one line of JSON for each step."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fovea.loggers import Logger
from fovea_template.logger.config import TemplateConfig


class TemplateLogger(Logger):
    """Logger ``template``: numbers and warnings; a resumed run forgets what it does again."""

    Config = TemplateConfig

    def __init__(
        self,
        config: TemplateConfig,
        *,
        folder: Path,
        stage: str,
        start: int,
        run: Mapping[str, Any],
    ):
        path = folder / stage / config.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]  # a kill may cut the last one off
        kept = [line for line in whole if json.loads(line)["step"] < start]
        path.write_text("".join(kept), encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers."""
        self._write({"step": step, **values})

    def warning(self, step: int, text: str) -> None:
        """Write a warning."""
        self._write({"step": step, "warning": text})

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _write(self, line: Mapping[str, float | str]) -> None:
        """Write a line, at once: what a killed process held back would be missing for ever."""
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
