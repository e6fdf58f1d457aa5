"""Rows of datasets in the format of the library ``datasets``, by Hugging Face.

timm's reader of them knows no folders that were saved, and neither subsets nor text labels.
"""

from copy import copy
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fovea.data.config import HuggingFaceConfig, Split
from fovea.data.labels import Label, class_names, class_numbers
from fovea.decoding import BadImage, read_image
from fovea.interfaces import DataSet, Sample


class HuggingFace(DataSet):
    """Data set ``hugging_face``: an image column, decoded by us, and perhaps a label column.

    Labels are a ClassLabel, numbers from 0 on, or names; negative or missing ones are unknown.

    Raises:
        ValueError: ``datasets`` is not installed, the dataset cannot be opened, or it lacks the
            split or a column, or has other things in it.
    """

    Config = HuggingFaceConfig

    def __init__(self, config: HuggingFaceConfig, *, split: Split, channels: int):
        self.split = _split_name(config, split)
        self.image = config.image
        rows = _open(config, split)
        self.rows = _image_rows(rows, config.image)
        self.classes, self.labels = _labels(rows, config, split)
        self.decode = config.decode
        self.read = partial(read_image, channels=channels, max_pixels=config.max_pixels)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Name an image by its split and row."""
        return f"{self.split}[{index}]"

    def sample(self, index: int, epoch: int) -> Sample:
        """Read one image as it is; nothing is drawn."""
        name = self.name(index)
        image = self.read(_file(self.rows[index][self.image], name), name=name)
        return Sample(image.numpy(), int(self.labels[index]))

    def reduced(self, shorter_side: int) -> "HuggingFace":
        """Return the same images with large JPEGs decoded smaller, unless ``decode`` is full."""
        if self.decode == "full":
            return self
        other = copy(self)
        other.read = partial(self.read, shorter_side=shorter_side)
        return other


def _file(cell: dict[str, Any] | None, name: str) -> BinaryIO | Path:
    """Return the encoded image of a row: its bytes, or the file that it names instead."""
    if cell is not None and cell["bytes"] is not None:
        return BytesIO(cell["bytes"])
    if cell is not None and cell["path"]:
        return Path(cell["path"])
    raise BadImage(f"{name!r} cannot be used: the row has no image")


def _open(config: HuggingFaceConfig, split: Split) -> Any:
    """Open a split, a ``datasets.Dataset``, from where the path leads."""
    datasets, name = _library(), _split_name(config, split)
    folder = Path(config.path)
    try:
        if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
            return _saved(datasets, config, split)
        if folder.is_file():
            return datasets.load_dataset("parquet", data_files=config.path, split=name)
        return datasets.load_dataset(config.path, config.subset, split=name)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"data.path: {config.path} cannot be opened: {reason}") from error


def _saved(datasets: Any, config: HuggingFaceConfig, split: Split) -> Any:
    """Open a split of what ``save_to_disk`` wrote: one dataset, or several by name."""
    saved, name = datasets.load_from_disk(config.path), _split_name(config, split)
    if not isinstance(saved, dict):
        saved = {config.train: saved}
    if name not in saved:
        raise ValueError(f"it has no split {name!r} (data.{split}), only {', '.join(saved)}")
    return saved[name]


def _image_rows(rows: Any, column: str) -> Any:
    """Keep the image column alone, as encoded files."""
    datasets = _library()
    _check_column(rows, column, "data.image")
    try:
        return rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        kind = type(rows.features[column]).__name__
        raise ValueError(f"data.image: column {column!r} has no images but {kind}") from error


def _labels(
    rows: Any, config: HuggingFaceConfig, split: Split
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Read names of classes, and the number of each row's class: int64 [n]."""
    if config.label is None:
        return (), np.full(len(rows), -1)
    _check_column(rows, config.label, "data.label", "; null for none")
    labels = _column(rows, config.label)
    feature = rows.features[config.label]
    if isinstance(feature, _library().ClassLabel):
        classes = tuple(feature.names)
    else:
        trained = labels if split == "train" else _column(_open(config, "train"), config.label)
        classes = class_names(trained, "data.label")
    return classes, class_numbers(labels, classes, f"data.{split}")


def _column(rows: Any, column: str) -> list[Label]:
    """Read a column of labels; negative numbers, as hidden labels are, stand for none."""
    labels: list[Any] = list(rows.select_columns([column]).with_format(None)[column])
    for label in labels:
        if label is not None and type(label) not in (int, str):
            raise ValueError(f"data.label: expected numbers or names, found {str(label)[:60]}")
    return [None if isinstance(label, int) and label < 0 else label for label in labels]


def _check_column(rows: Any, column: str, key: str, hint: str = "") -> None:
    if column not in rows.column_names:
        known = ", ".join(rows.column_names)
        raise ValueError(f"{key}: there is no column {column!r}; known are {known}{hint}")


def _split_name(config: HuggingFaceConfig, split: Split) -> str:
    return {"train": config.train, "val": config.val, "test": config.test}[split]


def _library() -> Any:
    try:
        return import_module("datasets")
    except ImportError as error:
        raise ValueError(
            "data.name: hugging_face needs the library datasets, which cannot be imported: "
            "pip install 'fovea-vit[datasets]'"
        ) from error
