"""Laws of tar shards: read in any order as files are, labelled, and never extracted or trusted."""

import json
import pickle
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pictures import encode, gradient, write_tar

from fovea.config import ConfigError, validate
from fovea.data.config import FolderConfig, ShardsConfig
from fovea.data.folder import ImageFolder
from fovea.data.loader import all_batches
from fovea.data.shards import Shards
from fovea.data.tars import list_images
from fovea.decoding import BadImage


def picture(number: int, format: str = "PNG") -> bytes:
    """Encode a picture whose size is its number."""
    return encode(gradient(8 + number, 6), format)


def shards(root: Path, split: str = "train", **settings: object) -> Shards:
    config = validate(ShardsConfig, {"root": str(root), **settings})
    return Shards(config, split=split, channels=3)


def labels(data: Shards) -> list[int]:
    return [data.sample(i, 0).label for i in range(len(data))]


def test_webdataset_shards_are_read_in_any_order(tmp_path: Path) -> None:
    for shard in range(12):
        files = {}
        for i in range(3):
            number = 3 * shard + i
            files[f"{number:05}.png"] = picture(number)
            files[f"{number:05}.cls"] = str(number % 4).encode()
        write_tar(tmp_path / f"train-{shard}.tar", files)
    data = shards(tmp_path)
    assert data.classes == ("0", "1", "2", "3")
    assert data.name(34) == "train-11.tar/00034.png"  # natural order: 2 before 10
    order = list(range(36))
    random.Random(0).shuffle(order)
    for i in order:
        sample = data.sample(i, epoch=7)
        assert sample.label == i % 4
        assert np.array_equal(sample.image, np.array(gradient(8 + i, 6)))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_and_language_are_kept(tmp_path: Path, format: int) -> None:
    names = ["ünd 猫/" + "x" * 60 + ".png", "a/" * 60 + "b.png"]
    data = shards(write_tar(tmp_path / "a.tar", dict.fromkeys(names, picture(1)), format=format))
    assert [data.name(i) for i in range(2)] == [f"a.tar/{name}" for name in names]
    assert data.sample(1, 0).image.shape == (9, 6, 3)


def test_undecodable_names_can_be_printed(tmp_path: Path) -> None:
    data = shards(write_tar(tmp_path / "a.tar", {"b\udcff\nc.png": b"no image"}))
    assert data.name(0) == r"a.tar/b\udcff\nc.png"
    with pytest.raises(BadImage, match=r"a.tar/b\\udcff\\nc.png' cannot be used: empty, or not"):
        data.sample(0, 0)


def test_a_tar_of_class_folders_is_what_the_folder_is(tmp_path: Path) -> None:
    folder, tar = tmp_path / "folder", tmp_path / "all.tar"
    for i, name in enumerate(["n10/a.png", "n9/x/b.JPEG", "n9/c.v2.png", "n9/d.webp", "n9/no.txt"]):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(i, {".JPEG": "JPEG", ".webp": "WEBP"}.get(file.suffix, "PNG")))
    with tarfile.open(tar, "w") as archive:
        archive.add(folder, ".")
    packed = shards(tar)
    plain = ImageFolder(FolderConfig(root=str(folder)), split="train", channels=3)
    assert packed.classes == plain.classes == ("n9", "n10", "x")
    known = {plain.name(i): plain.sample(i, 0) for i in range(len(plain))}
    assert len(packed) == len(known) == 4
    for i in range(4):
        sample, same = packed.sample(i, 0), known[packed.name(i).removeprefix("all.tar/")]
        assert np.array_equal(sample.image, same.image)
        assert sample.label == same.label


def test_labels_may_be_numbers_or_names_in_json(tmp_path: Path) -> None:
    trees = [{"label": "dog"}, {"cls": "cat", "width": 3}, {"label": "dog2"}, {"label": "dog10"}]
    files = {f"{i}.jpg": picture(i, "JPEG") for i in range(4)}
    files |= {f"{i}.json": json.dumps(tree).encode() for i, tree in enumerate(trees)}
    data = shards(write_tar(tmp_path / "named.tar", files))
    assert data.classes == ("cat", "dog", "dog2", "dog10")
    assert labels(data) == [1, 0, 2, 3]
    numbers = {"0.png": picture(0), "0.json": b'{"label": 5}'}
    assert labels(shards(write_tar(tmp_path / "numbers.tar", numbers))) == [5]


def test_files_with_labels_count_for_more_than_folders(tmp_path: Path) -> None:
    files = {"part/0.png": picture(0), "part/0.cls": b"2\n", "part/1.png": picture(1)}
    files |= {"part/2.png": picture(2), "part/2.cls": b"-1"}
    data = shards(write_tar(tmp_path / "a.tar", files))
    assert data.classes == ("0", "1", "2")
    assert labels(data) == [2, -1, -1]


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    data = shards(write_tar(tmp_path / "a.tar", {"./0.png": picture(0), "1.png": picture(1)}))
    assert (data.classes, labels(data)) == ((), [-1, -1])


def test_other_columns_of_an_image_are_not_images(tmp_path: Path) -> None:
    names = ["0.jpg", "0.mask.png", "0.cls", "1.image.jpg", "1.cls", "2.v1.png", "2.v2.png"]
    files = {name: b"3" if name.endswith("cls") else picture(0) for name in names}
    data = shards(write_tar(tmp_path / "a.tar", files))
    found = [data.name(i) for i in range(len(data))]
    assert found == [f"a.tar/{n}" for n in ("0.jpg", "1.image.jpg", "2.v1.png", "2.v2.png")]
    assert labels(data) == [3, 3, -1, -1]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ({"0.cls": b""}, r"'0.cls' gives no label: it is empty"),
        ({"0.cls": b"7" * 9000}, r"gives no label: it has 9000 bytes"),
        ({"0.cls": b"\xff"}, r"gives no label: 'utf-8' codec"),
        ({"0.json": b"{"}, r"'0.json' gives no label: Expecting"),
        ({"0.json": b'{"label": [1, 2]}'}, r"expected a number or a name, found \[1, 2\]"),
        ({"0.json": b'{"label": true}'}, r"expected a number or a name, found True"),
        ({"0.json": b"[" * 100_000}, r"gives no label: "),
    ],
)
def test_an_image_whose_label_is_no_label_is_bad(
    tmp_path: Path, label: dict[str, bytes], reason: str
) -> None:
    files = {"0.png": picture(0), **label, "1.png": picture(1), "1.cls": b"1"}
    data = shards(write_tar(tmp_path / "a.tar", files))
    with pytest.raises(BadImage, match=rf"'a.tar/0.png' cannot be used: .*{reason}") as caught:
        data.sample(0, 0)
    assert "\n" not in str(caught.value)
    assert data.sample(1, 0).label == 1


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("1", "cat"), r"data\.train: labels are numbers such as 1 and names such as 'cat'"),
        (("0", "99999999999"), r"data\.train: labels run from 0 to 99999999999; expected 0 to"),
    ],
)
def test_labels_that_cannot_be_classes_are_refused(
    tmp_path: Path, pair: tuple[str, str], message: str
) -> None:
    files = {f"{i}.png": picture(i) for i in range(2)}
    files |= {f"{i}.cls": label.encode() for i, label in enumerate(pair)}
    with pytest.raises(ValueError, match=message):
        shards(write_tar(tmp_path / "a.tar", files))


# Splits


def one_each(root: Path, *names: str) -> None:
    for name in names:
        write_tar(root / name, {"0.png": picture(0), "0.cls": b"0"})


def in_split(root: Path, split: str, **settings: object) -> list[str]:
    return [str(path.relative_to(root)) for path in shards(root, split, **settings).shards]


@pytest.mark.parametrize(
    "names", [("train/1.tar", "val/1.tar"), ("train-1.tar", "validation-1.tar")]
)
def test_splits_are_folders_or_beginnings_of_names(tmp_path: Path, names: tuple[str, str]) -> None:
    one_each(tmp_path, *names, "other.tar")
    assert [in_split(tmp_path, one) for one in ("train", "val", "test")] == [
        [names[0]],
        [names[1]],
        [names[1]],
    ]


def test_splits_are_patterns_too(tmp_path: Path) -> None:
    one_each(tmp_path, *(f"in1k-train-{i:03}.tar" for i in range(12)), "x/in1k-val-0.tar")
    settings = {"train": "in1k-train-{009..011}.tar", "val": "x/*-val", "test": "in1k-{train}-003"}
    assert in_split(tmp_path, "train", **settings) == [
        f"in1k-train-{i}.tar" for i in ("009", "010", "011")
    ]
    assert in_split(tmp_path, "val", **settings) == ["x/in1k-val-0.tar"]
    assert in_split(tmp_path, "test", **settings) == ["in1k-train-003.tar"]


def test_without_splits_all_shards_are_to_train_on(tmp_path: Path) -> None:
    one_each(tmp_path, "10.tar", "9.tar")
    assert in_split(tmp_path, "train") == ["9.tar", "10.tar"]
    with pytest.raises(ValueError, match=r"data\.val: no \.tar file in .* is one of 'val'"):
        shards(tmp_path, "val")
    with pytest.raises(ValueError, match=r"data\.train: no \.tar file in .* is one of 'trian'"):
        shards(tmp_path, train="trian")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "a-{0..3}.tar"}, r"data\.train: there is no shard .*a-2\.tar"),
        ({"train": "pipe:touch marker"}, r"data\.train: no \.tar file in .* 'pipe:touch marker'"),
        ({"train": "http://host/a.tar"}, r"data\.train: no \.tar file in "),
        ({"train": "../a-0.tar"}, r"data\.train: expected names or patterns below root"),
        ({"train": "/etc/passwd"}, r"data\.train: expected names or patterns below root"),
        ({"train": ""}, r"data\.train: expected names or patterns below root"),
    ],
)
def test_shards_that_are_not_there_are_named(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    one_each(tmp_path, "a-0.tar", "a-1.tar", "a-3.tar")
    with pytest.raises(ValueError, match=message):
        shards(tmp_path, **settings)
    with pytest.raises(ValueError, match=r"data\.root: there is no folder or file .*gone"):
        shards(tmp_path / "gone")


def test_a_shard_of_two_splits_is_refused(tmp_path: Path) -> None:
    one_each(tmp_path, "a-0.tar", "a-1.tar")
    with pytest.raises(ValueError, match=r"data\.val: .*a-0\.tar is in the train split too"):
        shards(tmp_path, "val", train="a-", val="a-0")


def test_classes_are_those_of_training(tmp_path: Path) -> None:
    for name, label in (("train.tar", b"2"), ("val.tar", b"1"), ("test.tar", b"3")):
        write_tar(tmp_path / name, {"0.png": picture(0), "0.cls": label})
    assert shards(tmp_path, "val").classes == ("0", "1", "2")
    assert labels(shards(tmp_path, "val")) == [1]
    with pytest.raises(ValueError, match=r"data\.test: 3 is no class of the train split"):
        shards(tmp_path, "test", test="test")


def test_a_mistaken_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"decode"):
        validate(ShardsConfig, {"root": "x", "decode": "half"})


# Reading


def test_worker_processes_read_what_one_process_reads(tmp_path: Path) -> None:
    for shard in range(3):
        files = {f"{shard}{i}.png": picture(5 * shard + i) for i in range(5)}
        write_tar(tmp_path / f"{shard}.tar", files)
    data = shards(tmp_path)
    data.sample(0, 0)  # whatever is open now must not be shared
    alone, shared = ([*all_batches(data, 2, workers)] for workers in (0, 2))
    assert [batch.names for batch in shared] == [batch.names for batch in alone]
    for one, other in zip(alone, shared, strict=True):
        assert all(map(np.array_equal, one.images, other.images))


def test_a_data_set_may_be_sent_to_another_process(tmp_path: Path) -> None:
    data = shards(write_tar(tmp_path / "a.tar", {f"{i}.png": picture(i) for i in range(5)}))
    data.sample(0, 0)
    sent = pickle.loads(pickle.dumps(data.reduced(5)))
    assert np.array_equal(sent.sample(4, 0).image, data.sample(4, 0).image)


def test_large_jpegs_come_at_the_size_that_is_needed(tmp_path: Path) -> None:
    files = {"0.jpg": encode(gradient(400, 640), "JPEG")}
    data = shards(write_tar(tmp_path / "a.tar", files))
    assert data.reduced(90).sample(0, 0).image.shape == (100, 160, 3)
    assert data.sample(0, 0).image.shape == (400, 640, 3)
    full = shards(tmp_path / "a.tar", decode="full")
    assert full.reduced(90) is full
    with pytest.raises(BadImage, match="640 x 400 pixels are over 1000"):
        shards(tmp_path / "a.tar", max_pixels=1000).sample(0, 0)


def test_a_tar_that_changes_or_goes_gives_bad_images(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", {f"{i}.png": picture(i) for i in range(2)})
    data = shards(tar)
    tar.write_bytes(tar.read_bytes()[:1600])
    with pytest.raises(BadImage, match=r"'a.tar/1.png' cannot be used: the tar ends within it"):
        data.sample(1, 0)
    tar.unlink()
    with pytest.raises(BadImage, match=r"'a.tar/0.png' cannot be used: No such file or directory"):
        data.sample(0, 0)


# Damage


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "a.tar", {f"{i}.png": picture(i) for i in range(5)})


@pytest.mark.parametrize("length", [0, 100, 512, 1024, 1400, 4096, 5120])
def test_a_tar_that_is_cut_off_is_refused(tar: Path, length: int) -> None:
    data = tar.read_bytes()
    assert len(data) > length
    tar.write_bytes(data[:length])
    with pytest.raises(ValueError, match=r"data\.root: .*a\.tar: damaged, or no uncompressed tar"):
        shards(tar)


def test_a_damaged_header_does_not_end_the_tar_in_silence(tar: Path) -> None:
    whole = shards(tar)
    header = int(whole.offset[3]) - 512
    data = bytearray(tar.read_bytes())
    data[header + 20] ^= 1
    tar.write_bytes(data)
    images, damage = list_images(tar)
    assert [image.name for image in images] == ["0.png", "1.png", "2.png"]
    assert damage is not None
    assert f"neither a file nor the end follows byte {header}" in damage


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_tars_are_refused(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        tar.add(__file__, "a.png")
    with pytest.raises(ValueError, match=r"a\.tar: damaged, or no uncompressed tar"):
        shards(tmp_path)


def test_a_tar_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.train: no images in its tars, such as .*a\.tar"):
        shards(write_tar(tmp_path / "a.tar", {"0.txt": b"none"}))


def test_a_size_that_leads_backwards_does_not_hang(tar: Path) -> None:
    data = bytearray(tar.read_bytes())
    size = (-1024).to_bytes(12, "big", signed=True)
    data[124:136] = size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    tar.write_bytes(data)
    assert list_images(tar)[1] is not None


def test_mutated_tars_are_listed_or_named_and_nothing_else(tar: Path) -> None:
    chance = random.Random(0)
    whole = tar.read_bytes()
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        header = 512 * chance.randrange(len(data) // 512)
        for _ in range(chance.choice([1, 3, 20])):
            data[header + chance.randrange(512)] = chance.choice([0, 255, chance.randrange(256)])
        if chance.random() < 0.5:  # as an attacker would, who knows checksums
            data[header + 148 : header + 156] = b" " * 8
            total = sum(data[header : header + 512])
            data[header + 148 : header + 156] = b"%06o\0 " % total
        tar.write_bytes(data)
        images, damage = list_images(tar)
        refused += damage is not None
        assert damage is None or "\n" not in damage
        assert all(image.offset + image.size <= len(whole) for image in images if not image.fault)
    assert 50 < refused < 500
