"""The id by which a service knows a run again, kept in the run's folder."""

from pathlib import Path
from uuid import uuid4


def run_id(folder: Path) -> str:
    """Read the id that is kept in a folder, or choose one and keep it."""
    file = folder / "run_id.txt"
    if file.is_file() and (known := file.read_text(encoding="utf-8").strip()):
        return known
    folder.mkdir(parents=True, exist_ok=True)
    chosen = uuid4().hex[:8]
    file.write_text(chosen + "\n", encoding="utf-8")
    return chosen
