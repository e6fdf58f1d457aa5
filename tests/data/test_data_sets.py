"""The embedded scenes, and image folders of every layout."""

import os

import numpy as np
import pytest
from PIL import Image

from fovea.data.config import FashionConfig, FolderConfig
from fovea.data.fashion import FashionScenes
from fovea.data.folder import ImageFolder
from fovea.data.loader import all_batches
from fovea.decoding import BadImage


def scenes(split: str = "train", channels: int = 1, **settings: object) -> FashionScenes:
    return FashionScenes(FashionConfig(**settings), split=split, channels=channels)


@pytest.mark.parametrize(("split", "count"), [("train", 4000), ("val", 500), ("test", 1500)])
def test_fashion_has_ten_balanced_classes_in_each_split(split, count):
    data = scenes(split)
    assert len(data) == count
    assert len(data.classes) == 10
    assert np.bincount(data.labels).tolist() == [count // 10] * 10


def test_fashion_splits_share_no_image():
    seen = [
        image.tobytes() for split in ("train", "val", "test") for image in scenes(split).garments
    ]
    assert len(set(seen)) >= len(seen) - 3  # Fashion-MNIST itself repeats a few


@pytest.mark.parametrize("size", [(56, 56), (112, 64), (33, 200), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_garment_lies_in_its_box_whatever_the_size(size, channels):
    data = scenes(channels=channels, size=size, garment=(0.4, 0.8))
    H, W = size
    for index in range(5):
        sample = data.sample(index, epoch=1)
        assert sample.image.shape == (*size, channels)
        assert sample.image.dtype == np.uint8
        assert sample.label == data.labels[index]
        x0, y0, x1, y1 = sample.box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        left, top, right, bottom = (round(v) for v in (x0 * W, y0 * H, x1 * W, y1 * H))
        inside = sample.image[top:bottom, left:right]
        assert inside.sum(dtype=int) == sample.image.sum(dtype=int)
        assert (right - left, bottom - top) == (bottom - top, right - left)  # square in pixels


def test_fashion_sample_is_a_function_of_index_and_epoch():
    data = scenes(size=(80, 80), garment=(0.3, 0.6), fragments=2)
    one, same, other = (data.sample(7, epoch) for epoch in (2, 2, 3))
    assert np.array_equal(one.image, same.image)
    assert one.box == same.box
    assert one.box != other.box


@pytest.mark.parametrize("split", ["val", "test"])
def test_fashion_is_the_same_in_every_epoch_outside_training(split):
    data = scenes(split, size=(80, 80), garment=(0.3, 0.6))
    assert np.array_equal(data.sample(7, 0).image, data.sample(7, 9).image)


def test_fragments_add_light_outside_the_box():
    plain, strewn = (scenes(size=(96, 96), garment=(0.3, 0.3), fragments=n) for n in (0, 6))
    total = [sum(d.sample(i, 0).image.sum(dtype=int) for i in range(9)) for d in (plain, strewn)]
    assert total[1] > total[0]


def test_larger_scene_is_the_same_scene_enlarged():
    """Size alone changes: at the natural 28 pixels the garment is the original."""
    data = scenes("test", size=(28, 28))
    assert np.array_equal(data.sample(4, 0).image[:, :, 0], data.garments[4])


def put(file, size=(8, 6), mode="RGB", colour=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)


def folder(root, split="train", channels=3, **settings) -> ImageFolder:
    config = FolderConfig(root=str(root), **settings)
    return ImageFolder(config, split=split, channels=channels)


def test_class_folders_are_labels(tmp_path):
    put(tmp_path / "cat/1.png")
    put(tmp_path / "dog/2.jpg", size=(20, 10))
    put(tmp_path / "dog/3.png", mode="L", size=(3, 4))
    data = folder(tmp_path)
    assert data.classes == ("cat", "dog")
    assert [data.name(i) for i in range(len(data))] == ["cat/1.png", "dog/2.jpg", "dog/3.png"]
    assert [data.sample(i, 0).label for i in range(3)] == [0, 1, 1]
    assert [data.sample(i, 0).image.shape for i in range(3)] == [(6, 8, 3), (10, 20, 3), (4, 3, 3)]


def test_a_flat_folder_has_no_labels(tmp_path):
    put(tmp_path / "a.png")
    put(tmp_path / "b.png", mode="P")
    data = folder(tmp_path, channels=1)
    assert data.classes == ()
    assert [data.sample(i, 0).label for i in range(2)] == [-1, -1]
    assert data.sample(1, 5).image.shape == (6, 8, 1)


def test_imagenet_layout_tests_on_val(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            put(tmp_path / split / "n01" / f"{i}.png")
            put(tmp_path / split / "n02" / f"{i}.png")
    assert [len(folder(tmp_path, split)) for split in ("train", "val", "test")] == [6, 4, 4]
    assert folder(tmp_path, "test").classes == ("n01", "n02")


def test_val_labels_are_those_of_train_also_where_val_lacks_a_class(tmp_path):
    for name in ("ant", "bee", "cow"):
        put(tmp_path / "train" / name / "1.png")
    put(tmp_path / "val/cow/1.png")
    data = folder(tmp_path, "val")
    assert data.classes == ("ant", "bee", "cow")
    assert data.sample(0, 0).label == 2


def test_a_class_that_only_val_has_is_refused(tmp_path):
    put(tmp_path / "train/ant/1.png")
    put(tmp_path / "val/bee/1.png")
    with pytest.raises(ValueError, match=r"data\.val.*bee"):
        folder(tmp_path, "val")


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"data\.root: .*nowhere"):
        folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"data\.root: no images"):
        folder(tmp_path)
    put(tmp_path / "train/a/1.png")
    with pytest.raises(ValueError, match=r"data\.val: .*val"):
        folder(tmp_path, "val")


def test_a_misspelt_train_folder_is_not_taken_for_all_of_root(tmp_path):
    put(tmp_path / "val/a/1.png")
    put(tmp_path / "training/a/1.png")
    with pytest.raises(ValueError, match=r"data\.train: there is no folder .*trian"):
        folder(tmp_path, train="trian")


def test_every_common_format_is_found(tmp_path):
    formats = ("jpg", "JPEG", "png", "webp", "tif", "TIFF", "bmp", "gif", "jp2", "ppm")
    for i, suffix in enumerate(formats):
        put(tmp_path / f"{i}.{suffix}", size=(5 + i, 8))
    put(tmp_path / "unknown.png")
    (tmp_path / "unknown.png").rename(tmp_path / "unknown.dat")
    data = folder(tmp_path)
    assert [data.sample(i, 0).image.shape[1] - 5 for i in range(len(data))] == [*range(10)]


def test_numbers_in_names_count(tmp_path):
    for name in ("c10", "c9", "c1"):
        put(tmp_path / name / "2.png")
        put(tmp_path / name / "10.png")
    data = folder(tmp_path)
    assert data.classes == ("c1", "c9", "c10")
    assert [data.name(i) for i in range(2)] == ["c1/2.png", "c1/10.png"]


def test_classes_that_differ_in_case_alone_have_the_same_numbers_in_every_process(tmp_path):
    for name in ("cat", "Cat", "CAT", "cAt"):
        put(tmp_path / name / "1.png")
    assert folder(tmp_path).classes == ("CAT", "Cat", "cAt", "cat")


def test_images_beside_class_folders_have_no_label(tmp_path):
    put(tmp_path / "cat/1.png")
    put(tmp_path / "stray.png")
    data = folder(tmp_path)
    assert data.classes == ("cat",)
    assert {data.name(i): data.sample(i, 0).label for i in range(2)} == {
        "cat/1.png": 0,
        "stray.png": -1,
    }


def test_names_of_any_bytes_can_be_read_and_printed(tmp_path):
    put(tmp_path / "1.png", size=(9, 3))
    (tmp_path / "1.png").rename(tmp_path / os.fsdecode(b"\xff\n.png"))
    data = folder(tmp_path)
    assert data.name(0) == r"\udcff\n.png"
    assert data.sample(0, 0).image.shape == (3, 9, 3)


def test_a_corrupt_file_ends_up_in_the_batch_as_bad(tmp_path):
    put(tmp_path / "a/1.png")
    put(tmp_path / "a/2.png", size=(50, 50))
    whole = (tmp_path / "a/2.png").read_bytes()
    (tmp_path / "a/2.png").write_bytes(whole[: len(whole) // 2])
    put(tmp_path / "a/3.png", size=(30, 30))
    data = folder(tmp_path, max_pixels=2500)
    with pytest.raises(BadImage):
        data.sample(1, 0)
    (batch,) = all_batches(data, 4)
    assert batch.names == ["a/1.png", "a/3.png"]
    assert [bad.name for bad in batch.bad] == ["a/2.png"]
    assert [bad.name for bad in next(all_batches(folder(tmp_path, max_pixels=100), 4)).bad] == [
        "a/2.png",
        "a/3.png",
    ]
