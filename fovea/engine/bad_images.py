"""The images of a stage that could not be read: each named once, and not too many of them."""

import json
from pathlib import Path

from fovea import collective
from fovea.data.loader import BadFile
from fovea.engine.stopping import TrainingError


class BadImages:
    """Counts bad images and writes them to ``bad_images.jsonl``, with the reason.

    Args:
        folder: of the stage; what an interrupted run has written there is known.
        most: how many there may be.
    """

    def __init__(self, folder: Path, most: int):
        self.file = folder / "bad_images.jsonl"
        self.most = most
        self.names = {one.name for one in _read(self.file)}

    def note(self, found: list[BadFile]) -> None:
        """Write down those that are new; the first process does so for all.

        Raises:
            TrainingError: there are too many.
        """
        new = {one.name: one for one in found if one.name not in self.names}
        self.names.update(new)
        if new and collective.rank() == 0:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(vars(one)) + "\n" for one in new.values())
        if new and len(self.names) > self.most:
            raise TrainingError(
                f"{len(self.names)} images could not be read, more than max_bad_images="
                f"{self.most}; they are named in {self.file}"
            )

    def __str__(self) -> str:
        """Say how many there were, and where they are named."""
        names = sorted(self.names)
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return (
            f"{len(names)} images could not be read and were left out: {shown}; the reasons "
            f"are in {self.file}"
        )


def _read(file: Path) -> list[BadFile]:
    """Read the bad images that an interrupted run has named; a torn last line is left out."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [BadFile(**json.loads(line)) for line in lines if line.endswith("\n")]
