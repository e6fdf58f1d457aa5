"""Checkpoints that survive: written beside, synced, renamed; checked when read.

A process killed at any moment leaves the old file or the new one, never half of one. A flipped bit
or a truncated file is found by the checksums inside it, and the checkpoint before it is used.
"""

import errno
import os
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch


class DamagedFile(ValueError):  # noqa: N818 - it names the file
    """A file that is not what was written."""


def save_file(contents: dict[str, Any], file: Path) -> None:
    """Write tensors and plain values, all or nothing.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with open(temporary, "wb") as stream:
            torch.save(contents, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        size = sum(t.nbytes for t in _tensors(contents))
        raise OSError(
            f"{file} ({size / 2**20:.0f} MiB) could not be written: {_reason(error)}"
        ) from error
    _sync_folder(file.parent)


def save_text(text: str, file: Path) -> None:
    """Write a text, all of it or nothing."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def load_file(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what ``save_file`` wrote; nothing in the file is ever executed.

    Raises:
        DamagedFile: a checksum does not match, or it is no such file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise DamagedFile(f"{file} is damaged: the checksum of {broken} does not match")
        contents = torch.load(file, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:  # its own words advise to trust the file
        raise DamagedFile(
            f"{file} is damaged or no checkpoint: it holds more than tensors and plain values"
        ) from error
    except DamagedFile:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise DamagedFile(f"{file} is damaged or no checkpoint: {_reason(error)}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # where a wrong offset leads before the file's beginning
            raise
        raise DamagedFile(f"{file} is damaged: an offset in it is wrong") from error
    if not isinstance(contents, dict) or contents.get("format") != 1:
        raise DamagedFile(f"{file} is no checkpoint of this version of fovea")
    return contents


class Checkpoints:
    """The numbered checkpoints of one stage; the last ``keep`` are kept."""

    def __init__(self, folder: Path, keep: int):
        self.folder = folder
        self.keep = keep

    def save(self, step: int, contents: dict[str, Any]) -> Path:
        """Write the checkpoint of a step, then remove the oldest."""
        file = self.folder / f"checkpoint-{step:08d}.pt"
        save_file({"format": 1, "step": step, **contents}, file)
        numbered = self._numbered()
        later = [old for number, old in numbered if number > step]  # damaged, else we began there
        earlier = [old for number, old in numbered if number <= step]
        for old in later + earlier[: -self.keep]:
            old.unlink()
        return file

    def load_newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Read the newest that is whole: its contents (or None), and what is wrong with others.

        Raises:
            DamagedFile: there are checkpoints, and all are damaged.
        """
        for leftover in self.folder.glob(".checkpoint-*.tmp"):
            leftover.unlink()
        problems: list[str] = []
        for _, file in reversed(self._numbered()):
            try:
                return load_file(file), problems
            except DamagedFile as error:
                problems.append(str(error))
        if problems:
            raise DamagedFile(
                f"no checkpoint in {self.folder} can be read: {'; '.join(problems)}; "
                "remove them to start this stage again"
            )
        return None, problems

    def _numbered(self) -> list[tuple[int, Path]]:
        matches = [
            (re.fullmatch(r"checkpoint-(\d+)\.pt", file.name), file)
            for file in self.folder.glob("checkpoint-*.pt")
        ]
        return sorted((int(match[1]), file) for match, file in matches if match)


def _reason(error: BaseException) -> str:
    """Find the system's words below those that torch lays over them."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror
        below = below.__cause__ or below.__context__
    return " ".join(str(error).split())


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tensors(value: object) -> list[torch.Tensor]:
    """List all tensors in a tree."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []
