"""Images in tar files: found by their headers, read by offset; nothing is ever extracted or run.

timm's readers of tars do not serve here: one streams, so that an image cannot be read by its
number; the other knows no ``.cls``, reads whole tars to list them, and shares one file position
among the worker processes.
"""

import json
import struct
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from posixpath import splitext
from typing import BinaryIO

from fovea.data.labels import Label
from fovea.decoding import IMAGE_SUFFIXES, BadImage


@dataclass(frozen=True, slots=True)
class TarImage:
    """An image in a tar.

    Attributes:
        name: its path in the tar.
        offset: of its first byte in the tar.
        size: bytes.
        label: what the file beside it says; None without.
        fault: why it must not be used, or None.
    """

    name: str
    offset: int
    size: int
    label: Label
    fault: str | None

    @property
    def folder(self) -> str | None:
        """The folder that it lies in, which may stand for its class; None at the top."""
        return PurePosixPath(self.name).parent.name or None


def list_images(tar: Path) -> tuple[list[TarImage], str | None]:
    """List the images of a tar, in its order, and say what damage ends the list too early, if any.

    The label of ``key.jpg`` is the text of ``key.cls``, or "label" or "cls" in ``key.json``: a
    number, or else a name. ``key.mask.png`` beside ``key.jpg`` is not taken for an image. Images
    that are links or devices, or whose path leads out of the tar, have a fault.
    """
    try:
        with tar.open("rb") as file:
            members, damage = _scan(file)
            by_name = {member.name: member for member in members}
            images = [
                _image(file, member, by_name) for member in members if _is_image(member, by_name)
            ]
    except OSError as error:
        return [], f"{tar}: cannot be read: {error.strerror or error}"
    return images, None if damage is None else f"{tar}: {damage}"


def read_member(tar: Path, offset: int, size: int, name: str) -> BytesIO:
    """Read a file of a tar; each time it is opened anew, so that worker processes share nothing.

    Raises:
        BadImage: the tar is gone, or shorter than it was.
    """
    try:
        with tar.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise BadImage(f"{name!r} cannot be used: {error.strerror or error}") from error
    if len(data) < size:
        raise BadImage(f"{name!r} cannot be used: the tar ends within it")
    return BytesIO(data)


_DAMAGE = (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError, MemoryError)
_TAR_RAISES = (*_DAMAGE, OSError, struct.error)
_MOST_LABEL_BYTES = {".cls": 2**12, ".json": 2**20}


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in a tar, whatever it is."""

    name: str
    offset: int
    size: int
    fault: str | None


def _scan(file: BinaryIO) -> tuple[list[_Member], str | None]:
    """List all files of a tar up to its end, or to what damage there is."""
    members: list[_Member] = []
    try:
        for member in _members(file):
            members.append(member)
    except _TAR_RAISES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return members, f"damaged, or no uncompressed tar: {reason}"
    return members, None


def _members(file: BinaryIO) -> Iterator[_Member]:
    """Read one header after the other; tarfile ends in silence at a damaged one, we do not."""
    length = file.seek(0, 2)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as archive:
        end = 0
        while (info := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every one
            if info.size < 0 or archive.offset <= end:  # hostile: it would never end
                raise ValueError(f"the size of {info.name!r} is {info.size}")
            end = archive.offset
            fault = _fault(info)
            if fault is None and info.offset_data + info.size > length:
                raise ValueError(f"it ends within {info.name!r}")
            if not info.isdir():
                yield _Member(info.name.removeprefix("./"), info.offset_data, info.size, fault)
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"neither a file nor the end follows byte {archive.offset}")


def _fault(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return f"it is a link to {info.linkname!r}"
    if info.issparse() or not (info.isreg() or info.isdir()):
        return "it is not an ordinary file"
    if info.name.startswith("/") or ".." in info.name.split("/"):
        return "its path leads out of the tar"
    return None


def _is_image(member: _Member, by_name: Mapping[str, _Member]) -> bool:
    if splitext(member.name)[1].lower() not in IMAGE_SUFFIXES:
        return False
    _, *short = _keys(member.name)
    return not any(f"{key}{suffix}" in by_name for key in short for suffix in IMAGE_SUFFIXES)


def _keys(name: str) -> list[str]:
    """Say what companions may be named by: a file's path up to its last dot, and to its first."""
    folder, slash, last = name.rpartition("/")
    return list(dict.fromkeys((splitext(name)[0], folder + slash + last.partition(".")[0])))


def _image(file: BinaryIO, member: _Member, by_name: Mapping[str, _Member]) -> TarImage:
    label, fault = None, member.fault
    names = [f"{key}{suffix}" for key in _keys(member.name) for suffix in _MOST_LABEL_BYTES]
    beside = next((by_name[name] for name in names if name in by_name), None)
    if beside is not None and fault is None:
        try:
            label = _label(file, beside)
        except (ValueError, RecursionError) as error:
            fault = f"{beside.name!r} gives no label: {error}"
    return TarImage(member.name, member.offset, member.size, label, fault)


def _label(file: BinaryIO, member: _Member) -> Label:
    """Read the label beside an image; negative numbers stand for none."""
    suffix = splitext(member.name)[1]
    if member.fault is not None:
        raise ValueError(member.fault)
    if member.size > _MOST_LABEL_BYTES[suffix]:
        raise ValueError(f"it has {member.size} bytes")
    file.seek(member.offset)
    text = file.read(member.size).decode("utf-8").strip()
    if not text:
        raise ValueError("it is empty")
    label = _of_json(text) if suffix == ".json" else text
    if isinstance(label, str) and label.removeprefix("-").isdecimal():
        label = int(label)
    return None if isinstance(label, int) and label < 0 else label


def _of_json(text: str) -> Label:
    tree = json.loads(text)
    label = tree.get("label", tree.get("cls")) if isinstance(tree, dict) else None
    if label is not None and type(label) not in (int, str):
        raise ValueError(f"expected a number or a name, found {str(label)[:40]}")
    return label
