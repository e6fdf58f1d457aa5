"""Read every image below a path once, as training would, and note what was found."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from fovea.data.labels import natural
from fovea.data.names import printable
from fovea.data.shards import shard_name
from fovea.data.tars import TarImage, list_images, read_member
from fovea.decoding import IMAGE_SUFFIXES, BadImage, TooLarge, format_of, read_image


@dataclass(frozen=True, slots=True)
class Entry:
    """An image that is to be read.

    Attributes:
        name: what training calls it, before anything in it is escaped.
        group: its class, or the folder that it lies in.
        file: the image, or the tar that it is in.
        inside: where it lies in the tar.
    """

    name: str
    group: str
    file: Path
    inside: TarImage | None = None


@dataclass(frozen=True)
class Listing:
    """What lies below a path.

    Attributes:
        entries: images, in the order of their names.
        damaged: a sentence for each tar that cannot be read to its end.
        ignored: how many files of other kinds there are, by how their names end.
    """

    entries: list[Entry]
    damaged: list[str]
    ignored: dict[str, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one image.

    Attributes:
        name: printable.
        group: its class, or the folder that it lies in.
        fault: why it cannot be used, in the words of training; None if it can.
        too_large: that this is for its number of pixels.
        height, width: upright, in pixels.
        format: by its content.
        digest: of the encoded file; equal only where files are.
    """

    name: str
    group: str
    fault: str | None = None
    too_large: bool = False
    height: int = 0
    width: int = 0
    format: str = ""
    digest: bytes = b""


def list_path(path: Path) -> Listing:
    """List the images of a folder, in files and in tars, or of a single tar.

    Raises:
        ValueError: there is no such folder or tar.
    """
    if not path.is_dir() and not (path.is_file() and path.suffix == ".tar"):
        raise ValueError(f"{path}: there is no such folder or .tar file")
    files = [path.name] if path.is_file() else _files_below(path)
    root = path.parent if path.is_file() else path
    entries, damaged, ignored = [], [], Counter[str]()
    for name in files:
        suffix = os.path.splitext(name)[1].lower()
        if suffix == ".tar":
            found, damage = _in_tar(root / name, path)
            entries += found
            damaged += [damage] if damage else []
        elif suffix in IMAGE_SUFFIXES:
            entries.append(Entry(name, os.path.dirname(name), root / name))
        else:
            ignored[suffix or "without an ending"] += 1
    return Listing(entries, damaged, dict(ignored.most_common()))


def inspect_all(entries: list[Entry], max_pixels: int, workers: int) -> Iterator[Finding]:
    """Read images, in order, with ``workers`` processes (0: none).

    Raises:
        ChildProcessError: a process that read images has died.
    """
    images = _Inspected(entries, max_pixels)
    loader = DataLoader(images, batch_size=32, num_workers=workers, collate_fn=list)
    try:
        for findings in loader:
            yield from findings
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ChildProcessError(f"a process that read images has died: {error}") from error


class _Inspected(Dataset[Finding]):
    """Findings as torch wants them."""

    def __init__(self, entries: list[Entry], max_pixels: int):
        self.entries = entries
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Finding:
        return _inspect(self.entries[index], self.max_pixels)


def _inspect(entry: Entry, max_pixels: int) -> Finding:
    name, group = printable(entry.name), printable(entry.group)
    try:
        file = _open(entry)
        inside = None if entry.inside is None else entry.name  # files go by their whole path
        height, width, _ = read_image(file, max_pixels=max_pixels, name=inside).shape
    except BadImage as error:
        return Finding(name, group, str(error), isinstance(error, TooLarge))
    return Finding(name, group, None, False, height, width, format_of(file), _digest(file))


def _open(entry: Entry) -> Path | BytesIO:
    if entry.inside is None:
        return entry.file
    if entry.inside.fault is not None:
        raise BadImage(f"{entry.name!r} cannot be used: {entry.inside.fault}")
    return read_member(entry.file, entry.inside.offset, entry.inside.size, entry.name)


def _digest(file: Path | BytesIO) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    return hashlib.sha256(file.getvalue()).digest()


def _files_below(folder: Path) -> list[str]:
    walk = os.walk(folder, followlinks=True)  # as data sets do
    files = [os.path.join(place, name) for place, _, names in walk for name in names]
    return natural(file.removeprefix(f"{folder}{os.sep}") for file in files)


def _in_tar(tar: Path, root: Path) -> tuple[list[Entry], str | None]:
    images, damage = list_images(tar)
    shard = shard_name(tar, root)
    entries = [
        Entry(
            f"{shard}/{image.name}",
            (image.folder or "") if image.label is None else str(image.label),
            tar,
            image,
        )
        for image in images
    ]
    return entries, damage
