"""Exported weights: a folder of ``config.json`` and ``model.safetensors``.

It is safe to take from anyone: nothing in it is ever executed. The JSON holds the sha256 of the
tensors, and the tensors that of the JSON: whatever was changed since it was written is noticed.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fovea import paths
from fovea.engine.checkpoint import DamagedFile

CONFIG, TENSORS = "config.json", "model.safetensors"
_FORMAT = 1


def is_export(folder: str | Path) -> bool:
    """Say whether a folder, local or remote, was exported."""
    return paths.is_file(paths.join(folder, CONFIG))


def write_export(description: Mapping[str, Any], tensors: Mapping[str, Tensor], out: str) -> None:
    """Write a folder, all of it or nothing.

    Raises:
        ValueError: there is something already, or no plugin opens such a path.
        OSError: it cannot be written.
    """
    if is_export(out) or (not paths.is_remote(out) and _is_used(Path(out))):
        raise ValueError(f"{out} exists and is not empty; choose another folder, or remove it")
    if paths.is_remote(out):
        with tempfile.TemporaryDirectory() as made:
            _write_files(description, tensors, Path(made))
            for name in (TENSORS, CONFIG):  # the one by which the folder is known comes last
                paths.upload(Path(made, name), paths.join(out, name))
        return
    target = Path(out).resolve()
    beside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
    beside.mkdir(parents=True)
    try:
        _write_files(description, tensors, beside)
        os.replace(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read_export(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a folder: its description, and its tensors on the CPU.

    Raises:
        DamagedFile: a file is not what was written, or is none of ours.
    """
    config, weights = (paths.local(paths.join(folder, name)) for name in (CONFIG, TENSORS))
    try:
        description = json.loads(config.read_text(encoding="utf-8"))
        wanted, form = description.pop("sha256"), description["format"]
    except (UnicodeDecodeError, ValueError, RecursionError, LookupError, AttributeError, TypeError):
        raise DamagedFile(f"{config} is damaged or was not exported by fovea") from None
    if form != _FORMAT:
        raise DamagedFile(f"{config} has format {form!r}; this version reads format {_FORMAT}")
    if _digest(weights) != wanted:
        raise DamagedFile(f"{weights} is damaged: its sha256 is not the one in {config}")
    try:
        with safe_open(weights, "pt") as file:
            recorded = (file.metadata() or {}).get("config_sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise DamagedFile(f"{weights} is no file of safetensors: {reason}") from error
    if recorded != _digest_of(description):
        raise DamagedFile(f"{config} is damaged: it is not the one that {weights} was written with")
    return description, tensors


def _write_files(
    description: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> None:
    described = {"format": _FORMAT, **description}
    copies = {name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()}
    # save_file would leave a file that nobody but its owner may read
    (folder / TENSORS).write_bytes(save(copies, {"config_sha256": _digest_of(described)}))
    whole = {**described, "sha256": _digest(folder / TENSORS)}
    (folder / CONFIG).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(description: Mapping[str, Any]) -> str:
    """Hash what a description says, however it is laid out."""
    text = json.dumps(description, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_used(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))
