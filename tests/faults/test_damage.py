"""Damaged files: none of 600 is silently taken for what was written."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from faults.damage import KINDS, damaged

from fovea.engine.checkpoint import DamagedFile, load_file, load_newest, save_file
from fovea.weights import read_export, write_export

WEIGHTS = {f"block.{i}.weight": torch.randn(64, 32) for i in range(4)}
NOTES = {"classes": ["coat", "bag"], "model": {"patch_size": 16, "zoom": [0.5, None]}}


def a_checkpoint(folder: Path) -> None:
    save_file({"step": 3, "stage": WEIGHTS, **NOTES}, folder / "checkpoint-00000003.pt")


def an_export(folder: Path) -> None:
    write_export(NOTES, WEIGHTS, str(folder))


def read_checkpoint(folder: Path) -> tuple[object, dict[str, torch.Tensor]]:
    contents = load_file(folder / "checkpoint-00000003.pt")
    return {key: contents[key] for key in NOTES}, contents["stage"]


def read(folder: Path) -> tuple[object, dict[str, torch.Tensor]]:
    description, tensors = read_export(folder)
    return {key: description[key] for key in NOTES}, tensors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("write", "read"), [(a_checkpoint, read_checkpoint), (an_export, read)], ids=["run", "export"]
)
def test_no_damaged_file_of_200_is_silently_wrong(
    write: Callable[[Path], None],
    read: Callable[[Path], tuple[object, dict[str, torch.Tensor]]],
    kind: str,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "whole"
    if write is a_checkpoint:
        folder.mkdir()
    write(folder)
    files = sorted(folder.iterdir())
    draws, refused = random.Random(kind), 0
    sizes = [file.stat().st_size for file in files]
    for _ in range(200):
        (file,) = draws.choices(files, sizes)
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, kind, draws))
        try:
            notes, tensors = read(folder)
        except DamagedFile as error:
            refused += str(file) in str(error)
        else:  # what was hit means nothing: padding between tensors, or space in the JSON
            assert notes == NOTES
            assert tensors.keys() == WEIGHTS.keys()
            assert all(torch.equal(tensors[name], WEIGHTS[name]) for name in WEIGHTS)
        file.write_bytes(whole)
    assert refused >= 180  # by name


def test_the_run_takes_the_checkpoint_before_a_damaged_one_and_names_it(tmp_path: Path) -> None:
    for step in (7, 14):
        save_file({"step": step, "stage": WEIGHTS}, tmp_path / f"checkpoint-{step:08d}.pt")
    newest = tmp_path / "checkpoint-00000014.pt"
    whole, draws = newest.read_bytes(), random.Random(0)
    for kind in KINDS:
        newest.write_bytes(damaged(whole, kind, draws))
        contents, problems = load_newest(tmp_path)
        assert contents is not None
        assert contents["step"] == 7
        assert str(newest) in problems[0]
    shutil.copy(tmp_path / "checkpoint-00000007.pt", newest)  # whole, though of another step
    assert load_newest(tmp_path)[0]["step"] == 7
