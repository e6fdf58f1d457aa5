"""Files made to do harm: nothing in them ever runs, and each is refused by its name."""

import hashlib
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fovea
from fovea.config import ConfigError, read_yaml
from fovea.engine.checkpoint import DamagedFile, load_file, save_file
from fovea.trained import load_trained
from fovea.weights import CONFIG, TENSORS, write_export


class Marker:
    """What a pickle would run: it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.mkdir, (self.folder,)


@pytest.fixture
def marker(tmp_path: Path) -> Marker:
    return Marker(tmp_path / "marker")


@pytest.fixture(autouse=True)
def _nothing_runs(tmp_path: Path) -> object:
    yield
    assert not (tmp_path / "marker").exists()


def plain(file: Path, evil: object) -> None:
    file.write_bytes(pickle.dumps(evil))


def old_torch(file: Path, evil: object) -> None:
    torch.save({"format": 2, "evil": evil}, file, _use_new_zipfile_serialization=False)


def new_torch(file: Path, evil: object) -> None:
    torch.save({"format": 2, "weights": {"a": torch.ones(2)}, "evil": evil}, file)


def exchanged(file: Path, evil: object) -> None:
    """Exchange the pickle in a good file."""
    save_file({"weights": {"a": torch.ones(2)}}, file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, pickle.dumps(evil, 2) if name.endswith("data.pkl") else data)


def a_script(file: Path, evil: object) -> None:
    """Write what torch.load takes for a scripted module."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(evil))
        archive.writestr("a/constants.pkl", pickle.dumps(evil))
        archive.writestr("a/code/__torch__.py", "raise SystemExit")
        archive.writestr("a/version", "3")


def other_format(file: Path, evil: object) -> None:
    torch.save({"format": evil}, file)


@pytest.mark.parametrize("write", [plain, old_torch, new_torch, exchanged, a_script, other_format])
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_pickle_that_runs_something_is_refused(
    write: Callable[[Path, object], None], marker: Marker, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "pretrain"
    folder.mkdir(parents=True)
    write(folder / "trained.pt", marker)
    for load in (lambda: load_file(folder / "trained.pt"), lambda: load_trained(tmp_path / "run")):
        with pytest.raises(DamagedFile, match=r"trained\.pt"):
            load()


def test_the_pickles_above_do_run_where_nothing_refuses_them(marker: Marker) -> None:
    pickle.loads(pickle.dumps(marker))
    Path(marker.folder).rmdir()


HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def layout(header: object, length: int | None = None, data: bytes = bytes(8)) -> bytes:
    """Lay out a file of safetensors around any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ABUSES = {
    "a header longer than the file": layout(HEADER, length=2**62),
    "a header of 200 MB": layout(HEADER, length=200_000_000),
    "no JSON": layout(b"{'a': 1}"),
    "a list": layout([1, 2]),
    "nested a million times": layout(b"[" * 1_000_000),
    "offsets beyond the end": layout({"a": {**HEADER["a"], "data_offsets": [0, 2**40]}}),
    "offsets backwards": layout({"a": {**HEADER["a"], "data_offsets": [8, 0]}}),
    "a shape that overflows": layout({"a": {**HEADER["a"], "shape": [2**62, 2**62, 16]}}),
    "two tensors in one place": layout({**HEADER, "b": HEADER["a"]}),
    "an unknown type": layout({"a": {**HEADER["a"], "dtype": "O"}}),
    "a hole": layout({"a": {**HEADER["a"], "data_offsets": [4, 12]}}, data=bytes(12)),
    "a pickle": pickle.dumps({"a": 1}),
    "nothing": b"",
}


@pytest.mark.parametrize("abuse", ABUSES)
def test_abused_safetensors_are_refused(abuse: str, tmp_path: Path) -> None:
    write_export({"model": {}}, {"a": torch.ones(2)}, str(tmp_path / "out"))
    file = tmp_path / "out" / TENSORS
    file.write_bytes(ABUSES[abuse])
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    config["sha256"] = hashlib.sha256(ABUSES[abuse]).hexdigest()  # whoever can write, can hash
    (tmp_path / "out" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(DamagedFile, match=r"model\.safetensors"):
        fovea.load_model(tmp_path / "out")


DESCRIPTIONS = {
    "no JSON": b"{",
    "no object": b"[1]",
    "no text": b"\xff\xfe",
    "nested": b"[" * 100_000,
    "a huge number": b'{"format": ' + b"9" * 10_000 + b"}",
    "no checksum": b'{"format": 1, "model": {}}',
}


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_a_hostile_description_is_refused(description: str, tmp_path: Path) -> None:
    write_export({"model": {}}, {"a": torch.ones(2)}, str(tmp_path / "out"))
    (tmp_path / "out" / CONFIG).write_bytes(DESCRIPTIONS[description])
    with pytest.raises(DamagedFile, match=r"config\.json"):
        fovea.load_model(tmp_path / "out")


@pytest.mark.parametrize(
    "model",
    [
        {"backbone": {"name": "os:system"}},
        {"backbone": "../../evil"},
        {"backbone": {"name": "timm_vit", "module": "evil"}},
        {"context": {"__class__": "x"}},
        [],
        "vits16_foveal",
    ],
    ids=str,
)
def test_a_description_names_registered_parts_only(model: object, tmp_path: Path) -> None:
    described = {"model": model, "head": None, "classes": []}
    write_export(described, {"a": torch.ones(2)}, str(tmp_path / "out"))
    with pytest.raises(DamagedFile, match="out describes no model of this version"):
        fovea.load_model(tmp_path / "out")


@pytest.mark.parametrize("name", ["../x", "vits16_foveal/../../x", "/etc/passwd", "a\0b", ""])
def test_a_model_name_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="no model is called"):
        fovea.build_model(name)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [{marker}]",
        "!!python/object/new:os.mkdir [{marker}]",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!evil {marker}",
        "${{oc.env:HOME}}/${{oc.decode:x}}/${{nothing}}",
    ],
)
def test_yaml_tags_and_lookups_are_refused(value: str, marker: Marker, tmp_path: Path) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(f"run_dir: {value.format(marker=marker.folder)}\n")
    with pytest.raises(ConfigError, match=r"evil\.yaml"):
        read_yaml(file)


def test_loading_a_model_imports_and_runs_nothing_beside_it(tmp_path: Path) -> None:
    """A module that lies beside the files, even in the working directory, is not imported."""
    write_export(
        {"model": {"backbone": "evil"}, "head": None}, {"a": torch.ones(2)}, str(tmp_path / "out")
    )
    (tmp_path / "out" / "evil.py").write_text(f"import os; os.mkdir({str(tmp_path / 'marker')!r})")
    code = f"import fovea; fovea.load_model({str(tmp_path / 'out')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path / "out")
    assert b"describes no model of this version" in done.stderr
