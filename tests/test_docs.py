"""Laws of the documentation: what it shows runs, and what it lists is what there is."""

import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from fovea import hookspecs, registry
from fovea.recipe import Recipe, read_recipe
from fovea.shipped import shipped_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("register_"))


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """Find the fenced blocks of a language: line number and content of each."""
    found = re.finditer(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_python_blocks_of_a_page_run_one_after_the_other(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for line, block in blocks(page.read_text(encoding="utf-8"), "python"):
        padded = "\n" * (line - 1) + block  # so that a failure names the page's own line
        exec(compile(padded, str(page), "exec"), names)


def test_key_tables_are_those_of_the_config_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    generator = import_module("generate_configs")
    text = text_of("configs.md")
    written = text.partition(generator.BEGIN)[2].partition(generator.END)[0]
    assert written == generator.reference(), "run: python docs/generate_configs.py --write"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in text_of("configs.md").splitlines() if line.startswith("| `")]
    assert len(rows) > len(Recipe.model_fields)
    assert not [row for row in rows if row.endswith("|  |")]


def test_yaml_examples_of_configs_are_valid(tmp_path: Path) -> None:
    for number, (_, block) in enumerate(blocks(text_of("configs.md"), "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        read_recipe(str(file))


def test_commands_name_configs_that_ship() -> None:
    for page in PAGES:
        for name in re.findall(
            r"fovea(?:\.train|\.eval| config) ([a-z]\w+)(?![\w/-]|\.yaml)", page.read_text()
        ):
            assert name in shipped_names("configs")


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_documented_with_its_true_arguments(hook: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"### `{hook}({arguments})`\n" in text_of("plugins.md")


def test_documented_hooks_exist() -> None:
    documented = re.findall(r"^### `(\w+)\(", text_of("plugins.md"), re.MULTILINE)
    assert sorted(documented) == HOOKS


@pytest.mark.parametrize("kind", registry.INTERFACES)
def test_interface_is_documented_with_its_true_methods_and_arguments(kind: str) -> None:
    text = text_of("plugins.md").partition(f"### `{registry.HOOKS[kind]}(")[2].partition("\n##")[0]
    interface = getattr(import_module("fovea.interfaces"), registry.INTERFACES[kind])
    assert f"fovea.interfaces.{interface.__name__}`" in text
    for name in sorted(interface.__abstractmethods__ - {"__init__"}):
        parameters = list(inspect.signature(getattr(interface, name)).parameters)[1:]
        assert f"- `{name}({', '.join(parameters)})`" in text
    ours = next(one.name for one in registry.registrations() if one.kind == kind)
    component = registry.component_class(kind, ours)
    parameters = list(inspect.signature(component).parameters.values())
    given = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    assert f"- `__init__({', '.join(['config', *(['*'] if given else []), *given])})`" in text


def test_every_hook_has_its_interface() -> None:
    assert sorted(registry.HOOKS.values()) == HOOKS


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Install the example plugin of docs/plugins.md, from its own text, in a folder."""
    text = text_of("plugins.md")
    files = {}
    for _, block in blocks(text, "{.python .no-run}") + blocks(text, "toml"):
        first = block.partition("\n")[0]
        if "." in first and first.startswith("# "):
            files[first.removeprefix("# ")] = block
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = tmp_path / f"fovea_ring-{project['version']}.dist-info"
    info.mkdir()
    version = f"Name: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{version}")
    (points,) = project["entry-points"].items()
    lines = [f"{name} = {value}" for name, value in points[1].items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{points[0]}]", *lines, ""]))
    return tmp_path


def run(site: Path, *arguments: str, **environment: str) -> str:
    """Run a fresh Python beside the plugin; return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_example_plugin_is_listed_unless_it_is_disabled(site: Path) -> None:
    lines = "ring: fovea-ring 0.1.0, module fovea_ring\n  register_context_builders  ring\n"
    assert lines in run(site, "-m", "fovea.cli", "plugins")
    left = run(site, "-m", "fovea.cli", "plugins", FOVEA_DISABLE="ring")
    assert lines not in left
    assert "disabled by FOVEA_DISABLE: ring (fovea-ring 0.1.0)\n" in left


def test_example_plugin_is_shown_as_the_page_says(site: Path) -> None:
    shown = run(site, "-m", "fovea.cli", "plugins", "show", "ring")
    assert f"$ fovea plugins show ring\n{shown}```" in text_of("plugins.md")


CHECK_CONFIG = """
import sys
from fovea.config import ConfigError
from fovea.recipe import read_recipe

recipe = read_recipe("quickstart", ["model.context.name=ring", "model.context.count=12"])
assert recipe.model.context.settings.count == 12
try:
    read_recipe("quickstart", ["model.context.name=ring", "model.context.cuont=12"])
except ConfigError as error:
    print(*error.lines)
assert "torch" not in sys.modules
"""


def test_example_plugin_has_its_config_checked_without_torch(site: Path) -> None:
    message = run(site, "-c", CHECK_CONFIG).strip()
    assert message == "model.context.cuont: unknown key; did you mean 'count'?"
    assert f"`{message}`" in text_of("plugins.md")


CHECK_CONTEXT = """
import numpy as np
import torch
import fovea
from fovea.model import assemble
from fovea.recipe import read_recipe

ring = fovea.create("context_builder", "ring", count=12, radius=0.25)
windows = ring.windows(torch.tensor([[0.5, 0.4]]), torch.tensor([[100, 200]]), None)
assert windows.shape == (1, ring.num_windows, 3) and windows.dtype == torch.float64
pixels = windows[0, :, :2] * torch.tensor([200, 100]) - torch.tensor([100, 40])
assert torch.allclose(pixels.norm(dim=1), torch.tensor(25.0).double(), atol=1e-3)
model = assemble(read_recipe("quickstart", ["model.context.name=ring"]).model)
assert model(np.zeros((30, 50), np.uint8), glimpses=2).states.shape == (1, 2, 4, 64)
"""


def test_example_plugin_works_in_a_model(site: Path) -> None:
    run(site, "-c", CHECK_CONTEXT)


MISTAKES = {
    "misspelt": "@hookimpl\ndef register_context_bilders(register): ...\n",
    "raises": "@hookimpl\ndef register_backbones(register): raise KeyError('lost')\n",
    "nothing": "def register_backbones(register): ...\n",
    "malformed": "@hookimpl\ndef register_backbones(register): register('a', 'module.Class')\n",
    "unimportable": "import no_such_module\n",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_plugin_with_a_mistake_is_left_out_and_named(
    mistake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = f"fovea_mistake_{mistake}"
    (tmp_path / f"{module}.py").write_text("from fovea import hookimpl\n\n" + MISTAKES[mistake])
    monkeypatch.syspath_prepend(str(tmp_path))
    found = registry.Registry()
    found.load(EntryPoint(name=mistake, value=module, group="fovea"))
    assert not found.components
    assert [str(plugin) for plugin in found.broken] == [f"{mistake} (unknown)"]
    assert capsys.readouterr().err.startswith(f"fovea: plugin {mistake} (unknown) was left out: ")


def test_name_that_is_taken_leaves_the_later_plugin_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = ModuleType("fovea_twin")
    vars(twin)["register_backbones"] = hookspecs.hookimpl(
        lambda register: register("timm_vit", "their.module:Class")
    )
    monkeypatch.setitem(sys.modules, "fovea_twin", twin)
    found = registry.Registry()
    found.load(EntryPoint(name="builtin", value="fovea.builtin", group="fovea"))
    ours = dict(found.components)
    found.load(EntryPoint(name="twin", value="fovea_twin", group="fovea"))
    assert found.components == ours
    assert "already registered" in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_named_by_a_page_exist(page: Path) -> None:
    folders = ("fovea", "docs", "configs", "model_zoo")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*")]
    known = {str(file.relative_to(ROOT)) for file in files}
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:[\w-]+/)*\w+\.(?:py|yaml))`", text):
        made_by_a_run = name in ("config.yaml", "run_dir/config.yaml")
        in_example = name.startswith("fovea_ring/")
        assert made_by_a_run or in_example or any(f"/{file}".endswith(f"/{name}") for file in known)


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([\w/.-]+\.(?:md|png))\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


def test_navigation_lists_every_page() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = [file for entry in site["nav"] for file in _files(entry)]
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def _files(entry: dict[str, Any]) -> Iterator[str]:
    """List the pages of an entry of the navigation and of those below it."""
    for below in entry.values():
        yield from [below] if isinstance(below, str) else (f for one in below for f in _files(one))
