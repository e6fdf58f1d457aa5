"""The wheel carries everything: it works away from the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", build, str(folder)]
    name = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return folder / name.split()[-1]


def test_wheel_carries_configs_cards_data_and_types(wheel: Path):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for file in ("fovea/py.typed", "fovea/data/fashion_mnist.npz", "fovea/configs/quickstart.yaml",
                 "fovea/model_zoo/vits16_foveal.yaml",
                 "fovea/fovea-template/pyproject.toml"):  # fmt: skip
        assert file in inside
    assert not any("__pycache__" in name for name in inside)
    assert not any(name.startswith(("tests", "docs")) for name in inside)


def test_installed_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import fovea; from fovea.registry import names; from fovea.recipe import read_recipe;"
        "assert fovea.__file__.startswith(__import__('sys').argv[1]);"
        "assert 'integral' in names('patch_extractor');"
        "assert read_recipe('quickstart').model.backbone.name == 'timm_vit';"
        "assert 'vits16_foveal' in fovea.list_models();"
        "from fovea.data.fashion import FashionScenes;"
        "data = fovea.create('data_set', 'fashion', split='test', channels=1);"
        "assert len(data) == 1500;"
        "from pathlib import Path; from fovea.new_plugin import new_plugin;"
        "assert (new_plugin('ring', 'context_builder', Path()) / 'train.yaml').is_file()"
    )
    command = [sys.executable, "-c", code, str(site)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
