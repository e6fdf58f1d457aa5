"""Data as it comes: bad files by the hundred, odd ones, bombs, and tars that mean harm."""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import BAD, ODD, encode, gradient, png, turned, write_tar
from PIL import Image

import fovea
from fovea.data.config import FolderConfig, ShardsConfig
from fovea.data.folder import ImageFolder
from fovea.data.loader import Order, train_batches
from fovea.data.shards import Shards
from fovea.decoding import BadImage
from fovea.model import assemble
from fovea.recipe import read_recipe

IMAGES, BATCH = 1000, 50
LINK = "broken link"
KINDS = [*BAD, LINK]
TRAINING = [
    *("smoke", "probe=null", "policy=null", "threads=1", "device=cpu", "log_every=1"),
    *("model.backbone.width=16", "model.backbone.depth=1", "pretrain.objective.locals=1"),
    *("pretrain.steps=null", "pretrain.epochs=1", f"pretrain.batch_size={BATCH}"),
]


def command(*words: str, folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with one thread."""
    root = Path(fovea.__file__).parents[1]
    search = os.pathsep.join([str(root), str(root / "tests")])
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


# Bad files among good ones


def is_bad(number: int) -> bool:
    return number % 10 == 3


def file_name(number: int) -> str:
    return f"{number % 4}/{number:04}.png"


def kind_of(number: int) -> str:
    return KINDS[number // 10 % len(KINDS)]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes | None]:
    """Make 1,000 files; a tenth of them is bad in 25 ways (None: a link that leads nowhere)."""
    made: dict[str, bytes | None] = {}
    makers: dict[str, Callable[[], bytes]] = BAD
    bad = {kind: make() for kind, make in makers.items()} | {LINK: None}
    for number in range(IMAGES):
        good = encode(gradient(16 + number % 23, 16 + number % 17))
        made[file_name(number)] = bad[kind_of(number)] if is_bad(number) else good
    return made


@pytest.fixture(scope="module")
def folder(files: dict[str, bytes | None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    for name, data in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        if data is None:
            (root / name).symlink_to("nowhere")
        else:
            (root / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the same files, in the same order, in four tars, one for each class."""
    root = tmp_path_factory.mktemp("shards")
    for name in sorted(path.name for path in folder.iterdir()):
        with tarfile.open(root / f"{name}.tar", "w") as tar:
            for path in sorted((folder / name).iterdir()):
                tar.add(path, f"{name}/{path.name}")
    return root


def metrics(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "pretrain/metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def bad_names(run: Path) -> list[str]:
    lines = (run / "pretrain/bad_images.jsonl").read_text().splitlines()
    return [json.loads(line)["name"] for line in lines]


TRAIN = """
import json, sys
from fovea.train import main

print([main(words) for words in json.loads(sys.argv[1])])
"""


def trained(*runs: list[str], folder: Path) -> tuple[list[int], str, str]:
    """Train one after the other in a process; return exit codes, what was printed, and errors."""
    words = json.dumps([[*TRAINING, *run] for run in runs])
    done = command("-c", TRAIN, words, folder=folder)
    assert done.returncode == 0, done.stderr
    *printed, codes = done.stdout.splitlines()
    return json.loads(codes), "\n".join(printed), done.stderr


def test_training_goes_on_without_bad_files_and_names_each_once(
    folder: Path, shards: Path, tmp_path: Path
) -> None:
    runs = {"folder": folder, "shards": shards}
    words = [
        [f"data.name={kind}", f"data.root={root}", f"run_dir={kind}"] for kind, root in runs.items()
    ]
    codes, printed, errors = trained(*words, folder=tmp_path)
    assert codes == [0, 0], errors
    assert printed.count(f"{IMAGES // 10} images could not be read and were left out") == 2
    for kind in runs:
        named = [name.partition(".tar/")[2] or name for name in bad_names(tmp_path / kind)]
        assert sorted(named) == sorted(file_name(n) for n in range(IMAGES) if is_bad(n))
    losses = metrics(tmp_path / "folder")
    assert [step for step, _ in losses] == list(range(IMAGES // BATCH))
    assert metrics(tmp_path / "shards") == losses


def test_reasons_tell_the_kinds_apart(folder: Path) -> None:
    data = ImageFolder(FolderConfig(root=str(folder)), split="train", channels=1)
    reasons: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for index in range(len(data)):
        number = int(Path(data.name(index)).stem)
        if not is_bad(number):
            assert data.sample(index, 0).image.shape[:2] == (16 + number % 23, 16 + number % 17)
            continue
        with pytest.raises(BadImage) as caught:
            data.sample(index, 0)
        reasons[kind_of(number)].add(str(caught.value).partition(" cannot be used: ")[2])
    assert all(len(found) == 1 for found in reasons.values())
    assert len(set.union(*reasons.values())) > len(KINDS) // 2


def test_too_many_bad_files_stop_the_run_before_its_end(folder: Path, tmp_path: Path) -> None:
    data = ["data.name=folder", f"data.root={folder}"]
    few, many = "max_bad_images=30", "max_bad_images=100"
    codes, _, errors = trained(
        [*data, "run_dir=stopped", few],
        [*data, "run_dir=resumed", few],
        [*data, "run_dir=resumed", many],  # it goes on, if told so
        folder=tmp_path,
    )
    assert codes == [1, 1, 0], errors
    assert errors.count("\n") == 2
    assert (
        errors.count("images could not be read, more than max_bad_images=30; they are named") == 2
    )
    assert 0 < len(metrics(tmp_path / "stopped")) < 12
    before, after = bad_names(tmp_path / "stopped"), bad_names(tmp_path / "resumed")
    assert 30 < len(before) < 40
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == IMAGES // 10


def test_bad_files_leave_the_order_of_the_others_as_it_was(
    folder: Path, files: dict[str, bytes | None], tmp_path: Path
) -> None:
    spare = encode(gradient())
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        data = files[name]
        good = data if data is not None and not is_bad(int(Path(name).stem)) else spare
        (tmp_path / name).write_bytes(good)
    order = Order(IMAGES, BATCH, seed=5, start=3, stop=25)
    read = [
        list(
            train_batches(
                ImageFolder(FolderConfig(root=str(root)), split="train", channels=1), order, workers
            )
        )
        for root, workers in ((folder, 0), (folder, 2), (tmp_path, 0))
    ]
    for bad, shared, whole in zip(*read, strict=True):
        kept = [i for i, name in enumerate(whole.names) if not is_bad(int(Path(name).stem))]
        assert bad.names == shared.names == [whole.names[i] for i in kept]
        assert bad.places.tolist() == shared.places.tolist() == whole.places[kept].tolist()
        for one, other, i in zip(bad.images, shared.images, kept, strict=True):
            assert np.array_equal(one, other)
            assert np.array_equal(one, whole.images[i])
        assert len(bad.bad) == BATCH - len(kept)


# Odd files


def odd_files() -> dict[str, bytes]:
    made = {f"{kind}.png": make() for kind, make in ODD.items()}
    made |= {f"turned {number}.jpg": turned(number) for number in range(1, 9)}
    for width, height in ((1, 1), (1, 5000), (5000, 1), (8000, 8)):
        rows = (b"\0" + bytes([y % 256]) * width for y in range(height))
        made[f"{width} x {height}.png"] = png(width, height, 8, rows)
    made["späce ünd 猫\n.png"] = encode(gradient())
    if ".avif" in Image.registered_extensions():
        made["avif.avif"] = encode(gradient(), "AVIF")
    return made


def test_odd_but_good_images_give_finite_patches_at_every_glimpse(tmp_path: Path) -> None:
    made = odd_files()
    assert len(made) >= 36
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    data = ImageFolder(FolderConfig(root=str(tmp_path)), split="train", channels=3)
    assert len(data) == len(made)
    model = assemble(read_recipe("dino_seq2global", ["data.root=x", "run_dir=x"]).model)
    scene = model.prepare([data.sample(i, 0).image for i in range(len(data))])
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        gaze = torch.rand(len(data), 2, generator=generator)
        windows = model.context.windows(gaze, scene.sizes, generator)
        patches = scene.read(windows)
        assert patches.shape == (len(data), model.context.num_windows, 3, 16, 16)
        assert torch.isfinite(patches).all()
        assert -1e-6 <= patches.min() <= patches.max() <= 1 + 1e-6


# Files that mean harm to the reader


MUTATE = """
import io, json, random
from PIL import Image
from memory import peak
from pictures import MUTABLE, ODD, encode, gradient
from fovea.decoding import BadImage, read_image

files = [*MUTABLE.values(), *(make() for make in ODD.values()), encode(gradient(), "JPEG2000")]
files += [encode(gradient(), "ICO"), encode(gradient(), "PPM"), encode(gradient(), "TGA")]
if ".avif" in Image.registered_extensions():
    files.append(encode(gradient(), "AVIF"))
chance = random.Random(0)
counts = {"read": 0, "bad": 0, "other": []}
for number in range(20_000):
    data = bytearray(files[number % len(files)])
    for _ in range(chance.choice([1, 2, 8, 30])):
        place = chance.randrange(chance.choice([64, len(data)])) % len(data)
        data[place] = chance.choice([0, 1, 127, 255, chance.randrange(256)])
    if chance.random() < 0.2:
        del data[chance.randrange(len(data)):]
    try:
        side = chance.choice([None, None, 4])
        image = read_image(io.BytesIO(data), chance.choice([1, 3]), 10**6, "m", side)
        assert image.ndim == 3
        counts["read"] += 1
    except BadImage as error:
        assert "\\n" not in str(error)
        counts["bad"] += 1
    except Exception as error:
        counts["other"].append(repr(error))
print(json.dumps({**counts, "peak": peak()}))
"""


def test_mutated_images_kill_nothing_and_raise_nothing_but_bad_image(tmp_path: Path) -> None:
    done = command("-c", MUTATE, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["other"] == []
    assert counts["read"] + counts["bad"] == 20_000
    assert min(counts["read"], counts["bad"]) > 1000
    assert counts["peak"] < 2**30


REFUSE = """
import json, sys
from pathlib import Path
from fovea.decoding import BadImage, read_image
from memory import forget_peak, peak

files = sorted(Path(sys.argv[1]).iterdir())
for file in sorted(Path(sys.argv[2]).iterdir()):
    read_image(file)  # whatever a decoder takes in any case
found = {}
for file in files:
    forget_peak()
    before = peak()
    try:
        read_image(file, max_pixels=50_000_000)
    except BadImage as error:
        found[file.name] = [str(error), peak() - before]
print(json.dumps(found))
"""


def enlarged(data: bytes, old: bytes, new: bytes) -> bytes:
    """Write another size into a header."""
    assert old in data[:400]
    return data.replace(old, new, 1)


def test_bombs_are_refused_by_their_header_with_little_memory(tmp_path: Path) -> None:
    small, bombs = tmp_path / "small", tmp_path / "bombs"
    small.mkdir()
    bombs.mkdir()
    formats = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")
    sized = {one: encode(gradient(258, 257), one) for one in formats}
    for one, data in sized.items():
        (small / one).write_bytes(data)
    rows = [bytes(10_001 // 8 + 1)] * 10_000
    both = {
        "100 million pixels.png": png(10_000, 10_000, 1, rows),
        "900 million pixels.png": png(30_000, 30_000, 8, []),
        "text.png": BAD["much text"](),
        "jpeg": enlarged(sized["JPEG"], b"\1\2\1\1", b"\xff\0\xff\0"),
        "gif": enlarged(sized["GIF"], b"\1\1\2\1", b"\xff\xff\xff\xff"),
        "bmp": enlarged(sized["BMP"], b"\1\1\0\0\2\1\0\0", b"\0\0\1\0\0\0\1\0"),
        "webp": encode(Image.new("L", (16_000, 4000)), "WEBP", lossless=True),
        "tiff": encode(Image.new("1", (9000, 9000)), "TIFF", compression="group4"),
    }
    assert len(both["100 million pixels.png"]) < 100_000
    for name, data in both.items():
        (bombs / name).write_bytes(data)
    done = command("-c", REFUSE, str(bombs), str(small), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == set(both)
    for name, (message, grown) in found.items():
        assert "pixels" in message or "too large" in message, name
        assert grown < 50 * 2**20, name


class Evil:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch marker",)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.devmajor, member.devminor = kind, target, 1, 5
    return member


def hostile_tar(path: Path, secret: Path) -> dict[str, str]:
    """Write a tar with all that a tar can do; return what is wrong with its images, by name."""
    picture, touch = encode(gradient(40, 40)), b"__import__('os').system('touch marker')"
    files = {
        "good.png": picture,
        "pipe:touch marker;.png": picture,
        "../../marker.png": picture,
        "/tmp/../marker.png": picture,
        "a/../../marker.png": picture,
        "a.png": picture,
        "a.json": b'{"label": {"py/object": "os.system"}}',
        "b.png": picture,
        "b.cls": touch,
        **dict.fromkeys(("good.pyd", "good.pth", "good.pickle", "good.pkl"), pickle.dumps(Evil())),
        **dict.fromkeys(("good.py", "__init__.py", "../sitecustomize.py"), b"open('marker', 'w')"),
    }
    write_tar(path, files)
    with tarfile.open(path, "a") as tar:
        tar.addfile(special("link.png", tarfile.SYMTYPE, str(secret)))
        tar.addfile(special("up.png", tarfile.SYMTYPE, "../../secret.png"))
        tar.addfile(special("hard.png", tarfile.LNKTYPE, "good.png"))
        tar.addfile(special("zero.png", tarfile.CHRTYPE))
        tar.addfile(special("disk.png", tarfile.BLKTYPE))
        tar.addfile(special("fifo.png", tarfile.FIFOTYPE))
        tar.addfile(special("c.cls", tarfile.SYMTYPE, str(secret)))
        member = tarfile.TarInfo("c.png")
        member.size = len(picture)
        tar.addfile(member, io.BytesIO(picture))
    leads_out = "its path leads out of the tar"
    return {
        "../../marker.png": leads_out,
        "/tmp/../marker.png": leads_out,
        "a/../../marker.png": leads_out,
        "a.png": "'a.json' gives no label: expected a number or a name",
        "link.png": f"it is a link to '{secret}'",
        "up.png": "it is a link to '../../secret.png'",
        "hard.png": "it is a link to 'good.png'",
        "zero.png": "it is not an ordinary file",
        "disk.png": "it is not an ordinary file",
        "fifo.png": "it is not an ordinary file",
        "c.png": "'c.cls' gives no label: it is a link",
    }


def test_a_tar_that_means_harm_is_read_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.png"
    secret.write_bytes(encode(gradient(41, 41)))
    root = tmp_path / "shards"
    shard = root / "pipe:touch marker;.tar"
    hostile = hostile_tar(shard, secret)
    before = sorted(tmp_path.rglob("*"))
    data = Shards(ShardsConfig(root=str(root)), split="train", channels=3)
    order = Order(len(data), len(data), seed=0, start=0, stop=1)
    for workers in (0, 2):
        (batch,) = train_batches(data, order, workers)
        found = {bad.name.removeprefix(f"{shard.name}/"): bad.reason for bad in batch.bad}
        assert set(found) == set(hostile)
        for name, reason in hostile.items():
            assert reason in found[name]
        good = {name.removeprefix(f"{shard.name}/") for name in batch.names}
        assert good == {"good.png", "pipe:touch marker;.png", "b.png"}
    done = command("-m", "fovea.cli", "data", "check", str(root), folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count(" cannot be used: ") == len(hostile)
    assert sorted(tmp_path.rglob("*")) == before
