"""Laws of Hugging Face datasets: wherever they come from, and whatever their labels are."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pictures import encode, gradient

from fovea.config import validate
from fovea.data.config import HuggingFaceConfig
from fovea.data.hugging_face import HuggingFace
from fovea.data.loader import all_batches
from fovea.decoding import BadImage

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the library's copies with the test, silent and away from the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def rows(labels: list[object] | None, feature: object = None, first: int = 0) -> object:
    """Make a dataset of pictures of growing size, encoded as PNG."""
    pictures = [encode(gradient(8 + first + i, 6)) for i in range(len(labels or [0, 0, 0]))]
    cells = [{"bytes": data, "path": None} for data in pictures]
    features = {"image": datasets.Image()}
    columns: dict[str, list[object]] = {"image": cells}
    if labels is not None:
        features["label"] = feature or datasets.Value("int64")
        columns["label"] = labels
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def open_split(path: Path | str, split: str = "train", **settings: object) -> HuggingFace:
    config = validate(HuggingFaceConfig, {"path": str(path), **settings})
    return HuggingFace(config, split=split, channels=3)


def labels(data: HuggingFace) -> list[int]:
    return [data.sample(i, 0).label for i in range(len(data))]


CLASSES = datasets.ClassLabel(names=["dog", "cat", "ant"])


def splits() -> object:
    return datasets.DatasetDict(
        {"train": rows([1, 0, 2], CLASSES), "validation": rows([2, -1], CLASSES, first=10)}
    )


@pytest.fixture(params=["saved", "parquet"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write the same two splits in each way there is without a network."""
    folder = tmp_path / "place"
    if request.param == "saved":
        splits().save_to_disk(folder)
    else:
        for name, split in splits().items():
            split.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return folder


def test_pixels_and_classes_are_those_that_were_stored(place: Path) -> None:
    data = open_split(place)
    assert data.classes == ("dog", "cat", "ant")
    assert [data.name(i) for i in range(len(data))] == ["train[0]", "train[1]", "train[2]"]
    assert labels(data) == [1, 0, 2]
    for i in range(3):
        assert np.array_equal(data.sample(i, 5).image, np.array(gradient(8 + i, 6)))


def test_splits_go_by_the_datasets_own_names_and_hidden_labels_are_unknown(place: Path) -> None:
    for split in ("val", "test"):
        data = open_split(place, split)
        assert labels(data) == [2, -1]
        assert data.classes == ("dog", "cat", "ant")
        assert data.sample(0, 0).image.shape == (18, 6, 3)
    assert labels(open_split(place, "test", test="train")) == [1, 0, 2]


def test_a_split_that_is_not_there_is_named_with_those_that_are(place: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path: .*place cannot be opened: .*") as caught:
        open_split(place, "val", val="dev")
    assert all(word in str(caught.value) for word in ("dev", "train", "validation"))
    assert "\n" not in str(caught.value)


def test_worker_processes_read_the_same(place: Path) -> None:
    data = open_split(place)
    alone, shared = ([*all_batches(data, 2, workers)] for workers in (0, 2))
    assert [batch.names for batch in shared] == [batch.names for batch in alone]
    for one, other in zip(alone, shared, strict=True):
        assert all(map(np.array_equal, one.images, other.images))


def test_a_single_saved_dataset_or_parquet_file_is_the_train_split(tmp_path: Path) -> None:
    one = rows([1, 0], CLASSES)
    one.save_to_disk(tmp_path / "saved")
    one.to_parquet(tmp_path / "one.parquet")
    for path in (tmp_path / "saved", tmp_path / "one.parquet"):
        assert labels(open_split(path)) == [1, 0]
        with pytest.raises(ValueError, match="validation"):
            open_split(path, "val")


def saved(tmp_path: Path, *arguments: object) -> Path:
    rows(*arguments).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_numbers_may_be_labels(tmp_path: Path) -> None:
    data = open_split(saved(tmp_path, [3, 0, -1, None]))
    assert data.classes == ("0", "1", "2", "3")
    assert labels(data) == [3, 0, -1, -1]


def test_names_may_be_labels_and_those_of_training_count(tmp_path: Path) -> None:
    text = datasets.Value("string")
    both = {"train": rows(["b10", "b9"], text), "validation": rows(["b10"], text)}
    datasets.DatasetDict(both).save_to_disk(tmp_path / "both")
    assert open_split(tmp_path / "both").classes == ("b9", "b10")
    assert labels(open_split(tmp_path / "both", "val")) == [1]
    both["validation"] = rows(["ant"], text)
    datasets.DatasetDict(both).save_to_disk(tmp_path / "other")
    with pytest.raises(ValueError, match=r"data\.val: ant is no class of the train split"):
        open_split(tmp_path / "other", "val")


def test_labels_may_be_left_out(tmp_path: Path) -> None:
    path = saved(tmp_path, None)
    with pytest.raises(ValueError, match=r"data\.label: .* 'label'; known are image; null"):
        open_split(path)
    data = open_split(path, label=None)
    assert (data.classes, labels(data)) == ((), [-1, -1, -1])


def test_columns_of_other_things_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, [0.5, 0.25], datasets.Value("float64"))
    with pytest.raises(ValueError, match=r"data\.label: expected numbers or names, found 0\.5"):
        open_split(path)
    with pytest.raises(ValueError, match=r"data\.image: column 'label' has no images but Value"):
        open_split(path, image="label", label=None)
    with pytest.raises(ValueError, match=r"data\.image: .* 'picture'; known are image, label"):
        open_split(path, image="picture")


def test_images_may_be_plain_bytes_or_paths(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encode(gradient()))
    for kind, cell in (("binary", encode(gradient())), ("string", str(tmp_path / "0.png"))):
        features = datasets.Features({"picture": datasets.Value(kind)})
        made = datasets.Dataset.from_dict({"picture": [cell]}, features=features)
        made.save_to_disk(tmp_path / kind)
        data = open_split(tmp_path / kind, image="picture", label=None)
        assert np.array_equal(data.sample(0, 0).image, np.array(gradient()))


def test_a_row_that_cannot_be_decoded_is_a_bad_image(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(decode=False)})
    made = datasets.Dataset.from_dict({"image": [b"no image", None]}, features=features)
    made.save_to_disk(tmp_path / "bad")
    data = open_split(tmp_path / "bad", label=None)
    (batch,) = all_batches(data, 3)
    assert [(bad.name, bad.reason) for bad in batch.bad] == [
        ("train[0]", "'train[0]' cannot be used: empty, or not an image of a known format"),
        ("train[1]", "'train[1]' cannot be used: the row has no image"),
    ]
    datasets.Dataset.from_dict({"image": ["gone.png"]}).save_to_disk(tmp_path / "gone")
    with pytest.raises(BadImage, match=r"'train\[0\]' cannot be used: No such file or directory"):
        open_split(tmp_path / "gone", label=None).sample(0, 0)


def test_large_jpegs_come_at_the_size_that_is_needed(tmp_path: Path) -> None:
    cell = {"bytes": encode(gradient(400, 640), "JPEG"), "path": None}
    features = datasets.Features({"image": datasets.Image(decode=False)})
    made = datasets.Dataset.from_dict({"image": [cell]}, features=features)
    made.save_to_disk(tmp_path / "large")
    data = open_split(tmp_path / "large", label=None)
    assert data.reduced(90).sample(0, 0).image.shape == (100, 160, 3)
    full = open_split(tmp_path / "large", label=None, decode="full")
    assert full.reduced(90) is full


def test_a_place_that_holds_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "gone", "nobody/nothing-of-this-name"):
        with pytest.raises(ValueError, match=r"data\.path: .* cannot be opened: ") as caught:
            open_split(path)
        assert "\n" not in str(caught.value)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'fovea-vit\[datasets\]'"):
        open_split("anywhere")


@pytest.mark.parametrize("subset", [None, "evil"])
def test_a_script_is_never_run(tmp_path: Path, subset: str | None) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    marker = tmp_path / "marker"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    for path in (folder, folder / "evil.py"):
        with pytest.raises(ValueError, match=r"data\.path: .* cannot be opened: "):
            open_split(path, subset=subset)
    assert not marker.exists()
