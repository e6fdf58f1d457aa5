"""Our own components keep the contract that strangers' have to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encode, gradient, write_tar

from fovea import registry, testing

VIT = {"arch": "vit_tiny_patch16_224", "width": 24, "depth": 2, "heads": 2, "state_tokens": 3}
DINO = {
    "glimpses": 3,
    "locals": 2,
    "global_crop": {"grid": 3, "scale": [0.32, 1.0]},
    "local_crop": {"grid": 2, "scale": [0.05, 0.32]},
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 12},
}
LARGE = [np.asarray(gradient(300, 400)), np.asarray(gradient(520, 260))]
CASES: list[tuple[str, str, Mapping[str, Any]]] = [
    ("patch_extractor", "resize", {}),
    ("patch_extractor", "integral", {}),
    ("patch_extractor", "integral", {"reader": "torch", "table": "torch", "patch_size": 5}),
    ("patch_extractor", "integral", {"mode": "nearest", "tolerance": 1.0}),  # no area average
    ("patch_extractor", "pyramid", {}),
    ("patch_extractor", "pyramid", {"images": LARGE, "pixels_per_cell": 8.0, "tolerance": 0.1}),
    ("context_builder", "multizoom", {}),
    ("context_builder", "foveal", {}),
    ("context_builder", "foveal", {"grid": 2, "grid_zoom": [5.0, 5.0], "grid_zoom_eval": 5.5}),
    ("context_builder", "grid", {"grid": 3}),
    ("backbone", "timm_vit", {**VIT, "export": True}),
    ("backbone", "timm_vit", {**VIT, "drop_path": 0.1, "layer_scale": 0.1, "init": "xavier"}),
    ("backbone", "timm_vit", {**VIT, "channels": 1, "mean": [0.5], "std": [0.2]}),
    ("ssl_objective", "dino_seq2global", DINO),
    ("ssl_objective", "dino_seq2global", {**DINO, "locals": 0, "accumulate": 2}),
    ("gaze_policy", "random", {"low": 0.2, "high": 0.9}),
    ("gaze_policy", "gmm", {"depth": 1}),
    ("task_head", "linear", {}),
    ("task_head", "transformer", {"heads": 2}),
    ("data_set", "fashion", {}),
    ("data_set", "fashion", {"split": "test", "channels": 1, "size": [40, 60], "fragments": 2}),
]
APART = {
    *(("data_set", name) for name in ("folder", "shards", "hugging_face")),
    *(("logger", name) for name in ("tensorboard", "wandb", "trackio")),
}
FILES = {
    "train/cat/1.jpg": encode(gradient(600, 401), "JPEG"),
    "train/cat/2.png": encode(gradient(9, 6)),
    "train/dog/a.jpg": encode(gradient(300, 300), "JPEG"),
    "train/dog/b.png": b"no image",
}


def ids(case: tuple[str, str, Mapping[str, Any]]) -> str:
    return f"{case[0]}-{case[1]}"


def check(kind: str, name: str, **settings: Any) -> None:
    getattr(testing, f"check_{kind}")(name, **settings)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_ours_keeps_the_contract(case: tuple[str, str, Mapping[str, Any]]) -> None:
    kind, name, settings = case
    check(kind, name, **settings)


def test_all_of_ours_are_checked() -> None:
    ours = {(one.kind, one.name) for one in registry.registrations()
            if one.distribution.startswith("fovea-vit ")}  # fmt: skip
    assert {(kind, name) for kind, name, _ in CASES} | APART == ours


def test_folder_keeps_the_contract(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    check("data_set", "folder", root=str(tmp_path))


def test_shards_keep_the_contract(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", FILES)
    check("data_set", "shards", root=str(tmp_path))


def test_hugging_face_keeps_the_contract(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    cells = [{"bytes": data, "path": None} for data in FILES.values()]
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    rows = datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 1, 0]}, features=features)
    rows.save_to_disk(str(tmp_path / "saved"))
    check("data_set", "hugging_face", path=str(tmp_path / "saved"))


def test_tensorboard_keeps_the_contract() -> None:
    pytest.importorskip("tensorboard")
    check("logger", "tensorboard")


def test_wandb_keeps_the_contract() -> None:
    pytest.importorskip("wandb")
    check("logger", "wandb", mode="offline")


def test_trackio_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "TRACKIO_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    pytest.importorskip("trackio")
    check("logger", "trackio")
