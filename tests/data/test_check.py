"""``fovea data check``: what is bad, huge, tiny or repeated, in the words of training."""

import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from pictures import BAD, encode, gradient, png, write_tar

from fovea import cli
from fovea.data import check
from fovea.data.config import FolderConfig, ShardsConfig
from fovea.data.folder import ImageFolder
from fovea.data.loader import all_batches
from fovea.data.shards import Shards
from fovea.data.tars import list_images


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["data", "check", *words])
    printed = capsys.readouterr()
    assert not printed.err
    return code, printed.out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Lay out two classes with some of everything."""
    root = tmp_path / "photos"
    put(root / "cat/1.jpg", encode(gradient(40, 60), "JPEG"))
    put(root / "cat/10.png", encode(gradient(50, 60)))
    put(root / "cat/2.png", encode(gradient(31, 600)))
    put(root / "dog/1.JPEG", encode(gradient(50, 60)))  # a PNG, and once more the one above
    put(root / "dog/2.webp", b"RIFF")
    put(root / "dog/3.png", png(100, 100, 8, [bytes(101)] * 100))
    put(root / "dog/notes.txt", b"text")
    put(root / "dog/Thumbs", b"text")
    return root


def test_everything_is_counted_and_named(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    code, text = run(capsys, str(photos), "--max-pixels", "19999", "--json", str(file))
    assert code == 1
    found = json.loads(file.read_text())
    reason = f"'{photos}/dog/2.webp' cannot be used: empty, or not an image of a known format"
    assert found == {
        "path": str(photos),
        "images": 6,
        "good": 5,
        "bad": [{"name": "dog/2.webp", "reason": reason}],
        "huge": [],
        "damaged": [],
        "tiny": [{"name": "cat/2.png", "height": 31, "width": 600}],
        "duplicates": [["cat/10.png", "dog/1.JPEG"]],
        "ignored": {".txt": 1, "without an ending": 1},
        "min_side": 32,
        "max_pixels": 19999,
        "shorter_side": {"min": 31, "median": 50, "max": 100},
        "pixels": {"min": 2400, "median": 3000, "max": 18600},
        "formats": {"PNG": 4, "JPEG": 1},
        "classes": {"cat": 3, "dog": 2},
    }
    for line in (
        r"6 images",
        r"  good +5",
        r"  bad +1  left out of training",
        r"  tiny +1  shorter side below 32 pixels",
        r"  repeated +1  same content as another",
        r"  ignored +2  other files: \.txt 1, without an ending 1",
        r"  shorter side +31 to 100, median 50",
        r"  formats +PNG 4, JPEG 1",
        r"  classes +2: cat 3, dog 2",
        re.escape(reason),
        r"  cat/2\.png: 600 x 31 pixels",
        r"  cat/10\.png = dog/1\.JPEG",
    ):
        assert re.search(rf"{line}$", text, re.MULTILINE), line


def test_huge_images_are_those_that_training_refuses(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "dog/2.webp").unlink()
    code, text = run(capsys, str(photos), "--max-pixels", "9999", "--min-side", "10")
    assert code == 1
    assert re.search(r"  huge +2  over 9,999 pixels; left out of training", text)
    assert "3.png' cannot be used: 100 x 100 pixels are over 9999" in text
    assert "tiny" not in text
    assert run(capsys, str(photos))[0] == 0


@pytest.mark.parametrize("in_tar", [False, True], ids=["folder", "tar"])
def test_reasons_are_the_words_of_training(
    in_tar: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "bad"
    files = {f"{i:02}.png": make() for i, make in enumerate(BAD.values())}
    if in_tar:
        write_tar(root / "train.tar", files)
        data = Shards(ShardsConfig(root=str(root)), split="train", channels=3)
    else:
        for name, content in files.items():
            put(root / name, content)
        data = ImageFolder(FolderConfig(root=str(root)), split="train", channels=3)
    trained = [vars(bad) for batch in all_batches(data, 8) for bad in batch.bad]
    run(capsys, str(root), "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(trained) == len(BAD)
    both = sorted(found["bad"] + found["huge"], key=lambda one: str(one["name"]))
    assert both == trained


@pytest.mark.parametrize("workers", ["0", "2"])
def test_tars_are_read_alone_or_below_a_folder(
    workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {f"{i}.png": encode(gradient(40 + i, 50)) for i in range(3)}
    labels = {f"{i}.cls": b"%d" % (i % 2) for i in range(3)}
    tar = write_tar(tmp_path / "all/train/0.tar", {**images, **labels, "3.png": b"bad"})
    put(tmp_path / "all/new/5.png", images["1.png"])
    code, text = run(capsys, str(tmp_path / "all"), "--workers", workers)
    assert code == 1
    assert "5 images" in text
    assert "'train/0.tar/3.png' cannot be used: empty" in text
    assert re.search(r"classes +3: 0 2, 1 1, new 1$", text, re.MULTILINE)
    assert "new/5.png = train/0.tar/1.png" in text
    code, text = run(capsys, str(tar), "--workers", workers)
    assert code == 1
    assert f"{tar}: 4 images" in text
    assert "'0.tar/3.png' cannot be used: empty" in text


def test_a_damaged_tar_is_named_and_what_comes_before_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{i}.png": encode(gradient(40 + i, 50)) for i in range(3)}
    tar = write_tar(tmp_path / "all/0.tar", files)
    cut = list_images(tar)[0][1].offset + 10
    tar.write_bytes(tar.read_bytes()[:cut])
    put(tmp_path / "all/1.png", files["0.png"])
    code, text = run(capsys, str(tmp_path / "all"))
    assert code == 1
    assert re.search(r"  tars damaged +1  training does not start", text)
    assert f"{tar}: damaged, or no uncompressed tar: it ends within '1.png'" in text
    assert re.search(r"  good +2$", text, re.MULTILINE)
    assert "repeated" in text
    with pytest.raises(ValueError, match=re.escape(f"{tar}: damaged, or no uncompressed tar")):
        Shards(ShardsConfig(root=str(tmp_path / "all")), split="train", channels=3)


def test_a_flat_folder_without_labels_is_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(3):
        put(tmp_path / "flat" / f"{i}.png", encode(gradient(40 + i)))
    code, text = run(capsys, str(tmp_path / "flat"), "--min-side", "1")
    assert code == 0
    assert "classes" not in text


def test_names_of_any_bytes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "odd" / os.fsdecode(b"\xff\n.png")
    put(file, b"bad")
    code, text = run(capsys, str(tmp_path / "odd"), "--json", str(tmp_path / "found.json"))
    assert code == 1
    text.encode("utf-8")
    assert r"\udcff\n.png' cannot be used: empty" in text
    (bad,) = json.loads((tmp_path / "found.json").read_text())["bad"]
    assert bad["name"] == r"\udcff\n.png"


def test_long_lists_are_cut_on_screen_and_whole_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(30):
        put(tmp_path / "many" / f"class {i}" / "0.png", b"bad")
        put(tmp_path / "many" / f"class {i}" / "1.png", encode(gradient(40, 40 + i)))
    _, text = run(capsys, str(tmp_path / "many"), "--json", str(tmp_path / "found.json"))
    assert text.count("cannot be used") == 20
    assert "and 10 more; --json FILE lists all" in text
    assert re.search(r"classes +30 of 1 to 1, median 1 images", text)
    assert len(json.loads((tmp_path / "found.json").read_text())["bad"]) == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone"], "gone: there is no such folder or .tar file"),
        (["empty"], "empty: there are no images"),
        (["empty", "--json", "gone/found.json"], "--json: there is no folder gone"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    assert cli.main(["data", "check", *words]) == 2
    assert capsys.readouterr().err == f"fovea: {message}\n"


class Killed(list[check.Entry]):
    """Entries, one of which ends the process that asks for it."""

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def entries(tmp_path: Path) -> list[check.Entry]:
    (tmp_path / "0.png").write_bytes(encode(gradient()))
    return check.list_path(tmp_path).entries


def test_a_worker_that_dies_ends_the_check_in_one_sentence(entries: list[check.Entry]) -> None:
    with pytest.raises(ChildProcessError, match="a process that read images has died") as caught:
        list(check.inspect_all(Killed(entries), 10_000, workers=1))
    assert "\n" not in str(caught.value)


def test_findings_are_the_same_with_any_number_of_processes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(70):
        size = generator.integers(1, 50, 2)
        put(tmp_path / f"{i}.png", encode(gradient(*size)) if i % 7 else b"bad")
    entries = check.list_path(tmp_path).entries
    alone, shared = ([*check.inspect_all(entries, 1000, n)] for n in (0, 2))
    assert alone == shared
    assert [one.name for one in alone] == [f"{i}.png" for i in range(70)]
