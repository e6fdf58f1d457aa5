"""Laws of ``fovea new-plugin``: what it writes is installed, keeps its contract and trains."""

import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import environments
import pytest
import yaml

from fovea.new_plugin import main, new_plugin
from fovea.recipe import STAGES
from fovea.registry import INTERFACES
from fovea.shipped import template_folder

NAMES = {
    "patch_extractor": "averages",
    "context_builder": "sunflower_head",
    "backbone": "small2",
    "ssl_objective": "pairs",
    "gaze_policy": "one",
    "task_head": "mean_of_tokens",
    "data_set": "shapes",
    "logger": "lines",
}
TRAIN = """
import sys
from fovea.train import main
for config, run_dir, *steps in (word.split() for word in sys.argv[1:]):
    assert main([config, f"run_dir={run_dir}", *steps]) == 0, config
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a plugin of each kind; return their folders, all below one."""
    folder = tmp_path_factory.mktemp("made")
    return {kind: new_plugin(name, kind, folder) for kind, name in NAMES.items()}


def project(plugin: Path) -> dict[str, object]:
    return tomllib.loads((plugin / "pyproject.toml").read_text())["project"]


def test_every_kind_is_made(made: Mapping[str, Path]) -> None:
    assert set(made) == set(INTERFACES)
    assert made["context_builder"].name == "fovea-sunflower-head"
    written = {str(file.relative_to(made["logger"])) for file in made["logger"].rglob("*.*")}
    assert written == {
        "pyproject.toml", "README.md", "train.yaml", "tests/test_lines.py",
        "src/fovea_lines/__init__.py", "src/fovea_lines/config.py", "src/fovea_lines/logger.py",
        "src/fovea_lines/py.typed",
    }  # fmt: skip


@pytest.mark.parametrize("kind", INTERFACES)
def test_the_new_name_stands_in_every_place(kind: str, made: Mapping[str, Path]) -> None:
    name = NAMES[kind]
    for file in made[kind].rglob("*.*"):
        text = file.read_text()
        assert "template" not in text.lower(), file
        assert file.suffix == ".md" or max(map(len, text.splitlines()), default=0) <= 100, file
    assert project(made[kind])["entry-points"] == {"fovea": {name: f"fovea_{name}"}}


def run(*words: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def runs(made: Mapping[str, Path]) -> list[str]:
    """Name a config, a run_dir and three steps of each of its stages, for ``TRAIN``."""
    words = []
    for plugin in made.values():
        tree = yaml.safe_load((plugin / "train.yaml").read_text())
        steps = [f"{stage}.steps=3" for stage in STAGES if stage in tree]
        words.append(" ".join([f"{plugin}/train.yaml", f"{plugin}/run", *steps]))
    return words


def check_runs(made: Mapping[str, Path]) -> None:
    for plugin in made.values():
        assert list(plugin.glob("run/*/trained.pt")), plugin
    assert (made["logger"] / "run" / "pretrain" / "lines.jsonl").read_text().count("loss") == 3


def test_each_kind_keeps_its_contract_and_trains(made: Mapping[str, Path]) -> None:
    """Without pip, so that it is quick: their metadata is written here, as pip would."""
    folder = next(iter(made.values())).parent
    for plugin in made.values():
        about = project(plugin)
        info = folder / f"{str(about['name']).replace('-', '_')}-{about['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
        )
        ((name, module),) = about["entry-points"]["fovea"].items()  # type: ignore[index]
        (info / "entry_points.txt").write_text(f"[fovea]\n{name} = {module}\n")
    sources = [str(plugin / "src") for plugin in made.values()]
    path = os.pathsep.join([str(folder), *sources, os.environ.get("PYTHONPATH", "")])
    tests = [str(plugin) for plugin in made.values()]
    kit = ("-p", "fovea.testing.fixtures")  # its entry point counts where fovea is installed anew
    run("-m", "pytest", *kit, *tests, folder=folder, PYTHONPATH=path)
    run("-c", TRAIN, *runs(made), folder=folder, PYTHONPATH=path)
    check_runs(made)


@pytest.mark.fault  # no fault, but it takes a minute: a fresh environment and nine installations
def test_each_kind_is_installed_in_a_fresh_environment_and_trains(tmp_path: Path) -> None:
    environment = environments.make(tmp_path / "environment")
    made = {kind: new_plugin(name, kind, tmp_path) for kind, name in NAMES.items()}
    (tmp_path / "train.py").write_text(TRAIN)
    plugins = [str(plugin) for plugin in made.values()]
    for command in (
        ["pip", "install", *(word for plugin in plugins for word in ("-e", plugin))],
        *(["python", "-m", "pytest", plugin] for plugin in plugins),
        ["python", "train.py", *runs(made)],
    ):
        done = environment.run(shlex.join(command), tmp_path)
        assert done.returncode == 0, done.stdout
    check_runs(made)


MISTAKES = {
    ("Ring", "backbone"): "'Ring' is no good name: use small letters, digits and single under",
    ("log-polar", "backbone"): "'log-polar' is no good name",
    ("a__b", "backbone"): "'a__b' is no good name",
    ("../x", "backbone"): "'../x' is no good name",
    ("on", "backbone"): "'on' is no good name: YAML reads it as True",
    ("foveal", "context_builder"): "context_builder 'foveal' of fovea-vit",
    ("builtin", "logger"): "'builtin' is taken by the plugin builtin of fovea-vit",
    ("vit", "logger"): "'vit' is taken by the plugin builtin of fovea-vit",
    (
        "ring",
        "contextbuilder",
    ): "no kind is called 'contextbuilder'; did you mean 'context_builder'",
}


@pytest.mark.parametrize(("name", "kind"), MISTAKES)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--kind", kind, "--folder", str(tmp_path / "in")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fovea: {MISTAKES[name, kind]}")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fovea-ring").mkdir()
    assert main(["ring", "--kind", "backbone", "--folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"fovea: {tmp_path}/fovea-ring exists; choose another name or --folder\n"
    )
    assert list((tmp_path / "fovea-ring").iterdir()) == []


def test_it_says_what_to_do_next_and_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from fovea.cli import main; "
        "assert main(['new-plugin', 'ring', '--kind', 'backbone']) == 0; "
        "assert 'torch' not in sys.modules"
    )
    said = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert said.splitlines()[1:] == [
        "  pip install -e fovea-ring",
        "  python -m pytest fovea-ring",
        "  python -m fovea.train fovea-ring/train.yaml",
    ]


def test_the_template_registers_one_component_of_each_kind() -> None:
    points = project(template_folder())["entry-points"]
    assert points == {
        "fovea": {f"template_{kind}": f"fovea_template.{kind}" for kind in INTERFACES}
    }
