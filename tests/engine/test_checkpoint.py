"""Checkpoints under killed writers, full disks and flipped bits."""

import contextlib
import os
import subprocess
import sys

import pytest
import torch

from fovea.engine.checkpoint import (
    FORMAT,
    Checkpoints,
    DamagedFile,
    load_file,
    load_newest,
    misfit,
    save_file,
    save_text,
)

CONTENTS = {
    "format": FORMAT,
    "step": 3,
    "stage": {"weight": torch.arange(40.0).view(5, 8), "count": torch.tensor(7)},
    "names": ["a", "b"],
}


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[key], other[key]) for key in one)
        )
    return one == other


def test_what_is_saved_is_loaded(tmp_path):
    save_file(CONTENTS, tmp_path / "file.pt")
    assert same(load_file(tmp_path / "file.pt"), CONTENTS)
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


def test_a_failing_write_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    file = tmp_path / "file.pt"
    save_file(CONTENTS, file)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"file\.pt.*MiB.*No space left on device"):
        save_file({**CONTENTS, "step": 4}, file)
    monkeypatch.undo()
    assert load_file(file)["step"] == 3
    assert list(tmp_path.iterdir()) == [file]


def test_a_killed_writer_leaves_the_old_file(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, {"weight": torch.ones(3)})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt  # nothing after the write runs, as with SIGKILL

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, {"weight": torch.zeros(3)})
    contents, problems = checkpoints.load_newest()
    assert contents["step"] == 1
    assert problems == []
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint-00000001.pt"]


_FULL = """
import resource, sys, torch
from pathlib import Path
from fovea.engine.checkpoint import load_file, save_file
file = Path(sys.argv[1])
save_file({"step": 1}, file)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
for size in (1 << 18, 1 << 19, 1 << 21):  # the last bytes, or many, are too much
    try:
        save_file({"weight": torch.zeros(size)}, file)
    except OSError as error:
        print(error)
assert load_file(file)["step"] == 1, load_file(file).keys()
assert list(file.parent.iterdir()) == [file]
"""


def test_a_full_disk_keeps_the_old_file_and_is_named(tmp_path):
    command = [sys.executable, "-c", _FULL, str(tmp_path / "file.pt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout
    assert all("file.pt" in line and "MiB" in line for line in lines)
    assert all("File too large" in line for line in lines)


def test_every_flipped_bit_of_the_headers_is_refused_or_harmless(tmp_path):
    """The names, sizes and checksums of a zip lie at its end: each of their bits is tried."""
    file = tmp_path / "file.pt"
    save_file({"step": 3}, file)
    whole = file.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for position in range(directory, len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << (position % 8)
        file.write_bytes(bytes(data))
        with contextlib.suppress(DamagedFile):
            assert load_file(file) == {"format": FORMAT, "step": 3}


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_checkpoint_is_refused(content, tmp_path):
    file = tmp_path / "file.pt"
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"file\.pt"):
        load_file(file)


def test_code_in_a_file_is_refused_and_never_run(tmp_path):
    file = tmp_path / "file.pt"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": FORMAT, "evil": Evil()}, file)
    with pytest.raises(DamagedFile, match=r"file\.pt.*more than tensors"):
        load_file(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("format", [FORMAT - 1, FORMAT + 1, None])
def test_another_format_is_refused(format, tmp_path):
    torch.save({"format": format, "step": 3}, tmp_path / "file.pt")
    with pytest.raises(DamagedFile, match=f"has format {format}; .* reads format {FORMAT}"):
        load_file(tmp_path / "file.pt")


def test_what_does_not_fit_is_told_by_three_names_of_each_kind():
    wanted = {name: torch.zeros(2) for name in "abcdefg"}
    found = {"a": torch.zeros(2), "b": torch.zeros(3), "z": torch.zeros(1)}
    assert misfit(wanted, wanted) is None
    assert misfit(found, wanted) == (
        "it lacks c, d, e and 2 more; unknown to the model are z; "
        "of other shapes are b [3] instead of [2]"
    )
    assert misfit({**wanted, "a": [0, 0]}, wanted) == "it lacks a"


def test_the_checkpoint_before_a_damaged_one_is_used_and_the_damage_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (5, 10, 15):
        checkpoints.save(step, {"value": step})
    newest = tmp_path / "checkpoint-00000015.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    contents, problems = checkpoints.load_newest()
    assert contents["value"] == 10
    assert len(problems) == 1
    assert str(newest) in problems[0]


def test_all_damaged_is_an_error_and_none_is_a_beginning(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load_newest() == (None, [])
    checkpoints.save(5, {}).write_bytes(b"")
    with pytest.raises(DamagedFile, match="no checkpoint"):
        checkpoints.load_newest()


def test_a_reader_leaves_the_file_that_a_running_process_is_writing(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(5, {})
    writing = tmp_path / ".checkpoint-00000010.pt.tmp"
    writing.write_bytes(b"half")
    assert load_newest(tmp_path)[0]["step"] == 5
    assert writing.exists()
    assert checkpoints.load_newest()[0]["step"] == 5  # the next to train is alone in the folder
    assert not writing.exists()


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_are_kept(keep, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep)
    for step in range(1, 6):
        checkpoints.save(step, {})
    steps = sorted(int(file.stem.split("-")[1]) for file in tmp_path.iterdir())
    assert steps == list(range(6 - keep, 6))


def test_the_best_outlives_the_last_that_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in range(1, 6):
        checkpoints.save(step, {"value": step})
        if step in (2, 3):
            checkpoints.keep_best(step)
            checkpoints.keep_best(step)  # as after a kill between the two
    assert load_file(tmp_path / "best.pt")["value"] == 3
    assert sorted(one.name for one in tmp_path.iterdir()) == ["best.pt", "checkpoint-00000005.pt"]


def test_a_new_checkpoint_outlives_damaged_later_ones(tmp_path):
    many = Checkpoints(tmp_path, keep=3)
    for step in (5, 10, 15):
        many.save(step, {})
    for step in (10, 15):
        (tmp_path / f"checkpoint-{step:08d}.pt").write_bytes(b"")
    few = Checkpoints(tmp_path, keep=1)
    assert few.load_newest()[0]["step"] == 5
    few.save(7, {})
    assert few.load_newest()[0]["step"] == 7


def test_text_is_replaced_whole(tmp_path):
    save_text("one", tmp_path / "file")
    save_text("two\n", tmp_path / "file")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["two\n"]
