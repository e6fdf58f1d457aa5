"""Every add-on works on a device: its contract, and a short training with it."""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import strangers

from fovea import registry, testing
from fovea.testing.second_device import second_device
from fovea.train import main as train

PLUGINS = Path(__file__).parents[2] / "plugins"
MAE = {
    "glimpses": 2,
    "global_crop": {"grid": 3, "scale": [0.5, 1.0]},
    "hidden": 0.5,
    "pixels": 4,
    "decoder": {"width": 8, "depth": 1, "heads": 2},
}
DISTILL = {
    "teacher": "test_vit",
    "weights": "random",
    "glimpses": 2,
    "view": {"grid": 4, "scale": [0.5, 1.0]},
    "queries": 5,
    "head": {"width": 8, "heads": 2},
}
CASES: list[tuple[str, str, Mapping[str, Any]]] = [
    ("ssl_objective", "mae", MAE),
    ("ssl_objective", "distill", DISTILL),
    ("context_builder", "polar", {}),
    ("gaze_policy", "saliency", {}),
    ("patch_extractor", "template", {}),
    ("context_builder", "template", {}),
    ("backbone", "template", {"width": 16, "depth": 1, "heads": 2}),
    ("ssl_objective", "template", {}),
    ("gaze_policy", "template", {}),
    ("task_head", "template", {}),
]
APART = {("data_set", "wsi"), ("data_set", "template"), ("logger", "template")}  # hold no tensors
SMALL = [
    *("device=cuda", "log_every=1", "model.backbone.width=16", "model.backbone.depth=1"),
    *("model.context.zooms=[0,1]", "model.context.grid=2", "model.vit_context.grid=3"),
    *("pretrain.steps=2", "pretrain.batch_size=4", "probe=null", "policy=null"),
]
GAZED = [*SMALL[:-2], "probe.steps=2", "probe.batch_size=4", "policy.steps=2"]
GAZED += ["policy.batch_size=2", "policy.traces=2"]


@pytest.fixture(scope="module", autouse=True)
def addons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have this process see all add-ons, as if they were installed."""
    folder = tmp_path_factory.mktemp("addons")
    with pytest.MonkeyPatch.context() as patch:
        for plugin in PLUGINS.iterdir():
            project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
            metadata = (
                folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
            )
            metadata.mkdir()
            said = (
                f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
            )
            (metadata / "METADATA").write_text(said)
            (points,) = project["entry-points"].items()
            lines = [f"{name} = {module}" for name, module in points[1].items()]
            (metadata / "entry_points.txt").write_text("\n".join([f"[{points[0]}]", *lines, ""]))
            patch.syspath_prepend(plugin / "src")
        patch.syspath_prepend(folder)
        strangers.forget()
        yield
    strangers.forget()
    for name in [name for name in sys.modules if name.startswith("fovea_")]:
        del sys.modules[name]


def ids(case: tuple[str, str, Mapping[str, Any]]) -> str:
    return f"{case[0]}-{case[1]}"


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_an_addon_keeps_the_contract(case: tuple[str, str, Mapping[str, Any]]) -> None:
    kind, name, settings = case
    getattr(testing, f"check_{kind}")(name, **settings)


def test_all_of_the_addons_are_checked() -> None:
    theirs = {(one.kind, one.name) for one in registry.registrations()
              if not one.distribution.startswith("fovea-vit ")}  # fmt: skip
    assert {(kind, name) for kind, name, _ in CASES} | APART == theirs


def run_of(folder: Path, *words: str) -> int:
    with second_device():
        return train(["quickstart", f"run_dir={folder}", *words])


def objective(name: str, settings: Mapping[str, Any]) -> list[str]:
    flow = ", ".join(f"{key}: {value}" for key, value in {"name": name, **settings}.items())
    return [f"pretrain.objective={{{flow}}}"]


TRAININGS: dict[str, list[str]] = {
    "mae": [*SMALL, *objective("mae", MAE)],
    "distill": [*SMALL, "model.patch_size=16", *objective("distill", DISTILL)],
    "polar": [*SMALL[:4], *SMALL[6:], "model.context={name: polar, rings: 1}"],
    "saliency": [*SMALL, "model.policy={name: saliency}"],
}


@pytest.mark.parametrize("name", TRAININGS)
def test_an_addon_trains_on_a_device(name: str, tmp_path: Path) -> None:
    assert run_of(tmp_path / "run", *TRAININGS[name]) == 0


def test_slides_train_on_a_device(tmp_path: Path) -> None:
    from fovea_wsi.synthetic import Synthetic

    for number in range(2):
        file = tmp_path / "slides/train/pink" / f"{number}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        Synthetic(1024, seed=number, kind=0, tile=64).write(file, compression="deflate")
    tiny = PLUGINS / "fovea-wsi/tests/tiny.yaml"
    words = [f"data.root={tmp_path / 'slides'}", f"run_dir={tmp_path / 'run'}", "device=cuda"]
    with second_device():
        assert train([str(tiny), *words]) == 0
