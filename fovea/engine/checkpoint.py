"""Checkpoints that survive: written beside, synced, renamed; checked when read.

A process killed at any moment leaves the old file or the new one, never half of one. A flipped bit
or a truncated file is found by the checksums inside it, and the checkpoint before it is used.
"""

import contextlib
import errno
import os
import pickle
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 2
"""Of all files here; it grows when what is in them changes its meaning."""


class DamagedFile(ValueError):  # noqa: N818 - it names the file
    """A file that is not what was written."""


def save_file(contents: dict[str, Any], file: Path) -> None:
    """Write tensors and plain values, all or nothing.

    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with open(temporary, "wb") as stream:
            torch.save({**contents, "format": FORMAT}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):  # as on a disk that has become read-only
            temporary.unlink(missing_ok=True)
        system = _system_error(error)
        if system is None:  # not about this file: one may be raised anywhere, as by a signal
            raise
        reason = system.strerror if file.parent.is_dir() else "its folder was removed"
        size = sum(one.nbytes for one in _tensors(contents)) / 2**20
        raise OSError(f"{file} ({size:.1f} MiB) could not be written: {reason}") from error
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
        raise DamagedFile(f"{file} is damaged or no checkpoint: {_line(error)}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # where a wrong offset leads before the file's beginning
            raise
        raise DamagedFile(f"{file} is damaged: an offset in it is wrong") from error
    if not isinstance(contents, dict) or "format" not in contents:
        raise DamagedFile(f"{file} is no file of fovea")
    if contents["format"] != FORMAT:
        raise DamagedFile(
            f"{file} has format {contents['format']}; this version of fovea reads format {FORMAT}"
        )
    return contents


def misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Say where weights differ from those wanted, by the first three names of a kind; or None."""
    found = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    shared = [name for name in wanted if name in found]
    shapes = [
        f"{name} {list(found[name].shape)} instead of {list(wanted[name].shape)}"
        for name in shared
        if found[name].shape != wanted[name].shape
    ]
    kinds = {
        "it lacks": [name for name in wanted if name not in found],
        "unknown to the model are": [name for name in found if name not in wanted],
        "of other shapes are": shapes,
    }
    said = [f"{kind} {_first_three(names)}" for kind, names in kinds.items() if names]
    return "; ".join(said) or None


def _first_three(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


BEST = "best.pt"


class Checkpoints:
    """The numbered checkpoints of one stage; the last ``keep`` are kept, and the best."""

    def __init__(self, folder: Path, keep: int):
        self.folder = folder
        self.keep = keep

    def file(self, step: int) -> Path:
        """Name the checkpoint of a step."""
        return self.folder / f"checkpoint-{step:08d}.pt"

    def save(self, step: int, contents: dict[str, Any]) -> Path:
        """Write the checkpoint of a step, then remove the oldest."""
        file = self.file(step)
        save_file({"step": step, **contents}, file)
        numbered = _numbered(self.folder)
        later = [old for number, old in numbered if number > step]  # damaged, else we began there
        earlier = [old for number, old in numbered if number <= step]
        for old in later + earlier[: -self.keep]:
            old.unlink()
        return file

    def keep_best(self, step: int) -> None:
        """Keep the checkpoint of a step as ``best.pt``, in place of the one before."""
        temporary = self.folder / f".{BEST}.tmp"
        temporary.unlink(missing_ok=True)
        try:
            os.link(self.file(step), temporary)
        except OSError:  # some mounted stores have no links
            shutil.copyfile(self.file(step), temporary)
        os.replace(temporary, self.folder / BEST)
        temporary.unlink(missing_ok=True)  # a link is left where it is the best already

    def load_newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Read the newest that is whole, as ``load_newest``; remove what a killed writer left."""
        for leftover in self.folder.glob(".*.tmp"):  # of a process that was killed
            leftover.unlink()
        return load_newest(self.folder)


def load_newest(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the newest checkpoint in a folder that is whole; touches nothing.

    Returns:
        Its contents, or None where there is none; and what is wrong with later ones.

    Raises:
        DamagedFile: there are checkpoints, and all are damaged.
    """
    problems: list[str] = []
    for _, file in reversed(_numbered(folder)):
        try:
            return load_file(file), problems
        except DamagedFile as error:
            problems.append(str(error))
    if problems:
        raise DamagedFile(
            f"no checkpoint in {folder} can be read: {'; '.join(problems)}; "
            "remove them to start this stage again"
        )
    return None, problems


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    matches = [
        (re.fullmatch(r"checkpoint-(\d+)\.pt", file.name), file)
        for file in folder.glob("checkpoint-*.pt")
    ]
    return sorted((int(match[1]), file) for match, file in matches if match)


def _system_error(error: BaseException) -> OSError | None:
    """Find the system's error below what torch lays over it: of a full disk, a RuntimeError."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below
        below = below.__cause__ or below.__context__
    return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _sync_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tensors(value: object) -> list[Tensor]:
    """List all tensors in a tree."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []
