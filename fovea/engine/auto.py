"""Numbers for ``auto`` in a run: told at its start, kept in its folder, the same to its end."""

import json
from pathlib import Path

from fovea.config import ConfigError
from fovea.engine.checkpoint import save_text
from fovea.presets import Resolution

FILE = "auto.json"


def check_images(resolution: Resolution, run_dir: Path) -> None:
    """Refuse to go on with numbers that were made for another number of images.

    Raises:
        ConfigError: the data set has grown or shrunk since the run began.
    """
    file = run_dir / FILE
    if not resolution.choices or not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))["images"]
    if before != resolution.images:
        raise ConfigError(
            [
                f"data: {run_dir} began with {before:,} images and now there are "
                f"{resolution.images:,}, for which auto means other numbers; use another run_dir, "
                f"or go on with the numbers in {run_dir / 'config.yaml'} by training that file"
            ]
        )


def record(resolution: Resolution, run_dir: Path) -> None:
    """Print the numbers and keep them, with their reasons, beside the run's config."""
    if resolution.choices:
        print(resolution, flush=True)
        kept = {
            "images": resolution.images,
            "values": {one.key: {"value": one.value, "why": one.why} for one in resolution.choices},
        }
        save_text(json.dumps(kept, indent=2) + "\n", run_dir / FILE)
