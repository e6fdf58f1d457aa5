"""The import table of architecture.md, and the size and names of files."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fovea"
BASE = {
    "geometry",
    "interfaces",
    "images",
    "decoding",
    "config",
    "schedule",
    "precision",
    "kernels",
    "draws",
    "gazes",
    "collective",
}
COMPONENTS = ("extract", "context", "backbone", "objective", "policy", "task_head", "logger")

# folder or module -> what it may import of fovea besides itself
ALLOWED = {
    **{folder: BASE for folder in COMPONENTS},
    "data": BASE,
    "testing": BASE | {"parts", "registry"},
    "geometry": {"draws"},
    "draws": set(),
    "gazes": {"draws", "interfaces"},
    "collective": set(),
    "images": {"decoding"},
    "decoding": set(),
    "precision": set(),
    "kernels": set(),
    "shipped": set(),
    "hookspecs": set(),
    "builtin": {"hookspecs"},
    "section": set(),
    "loggers": {"section"},
    "suggest": set(),
    "registry": {"hookspecs", "section", "suggest"},
    "config": {"registry", "section"},
    "parts": {"config", "registry"},
    "schedule": {"config"},
    "recipe": {"config", "schedule", "shipped", "suggest"},
    "describe": {"config", "schedule"},
    "schema": {"config", "describe", "recipe", "registry", "schedule", "zoo"},
    "plugins": {"describe", "recipe", "registry", "suggest"},
    "new_plugin": {"describe", "recipe", "registry", "shipped"},
    "length": {"recipe"},
    "presets": {"config", "length", "recipe"},
    "interfaces": {"config", "images", "loggers", "scene"},
    "scene": set(),
    "model": {"config", "draws", "images", "interfaces", "parts", "recipe"},
}
ABOVE = {"stages", "engine", "train", "evaluate", "eval", "viz", "look", "cli", "bench", "runs"}
TORCH_FREE = {
    *("config", "registry", "hookspecs", "builtin", "recipe", "schedule", "shipped"),
    *("section", "parts", "train", "cli", "zoo", "length", "presets", "__init__"),
    *("loggers", "runs", "run_table"),
    *("suggest", "describe", "schema", "plugins", "new_plugin"),
}
HEAVY = {"torch", "timm", "numpy", "xformers", "fvcore", "PIL", "matplotlib"}
ONLY_IN = {
    "timm": {"backbone", "data", "bench"},
    "xformers": {"backbone"},
    "tifffile": {"extract"},
    "openslide": {"extract"},
    "tensorboard": {"logger"},
    "wandb": {"logger"},
    "trackio": {"logger"},
    "pyvips": {"extract"},
    "fvcore": {"engine", "schedule", "evaluate"},
    "iopath": {"paths"},
    "safetensors": {"weights"},
}
VAGUE = {"utils", "util", "common", "misc", "helpers", "helper"}
FILES = sorted(ROOT.rglob("*.py"))
CONFIGS = sorted(ROOT.glob("*/config.py"))
COMMANDS = sorted(ROOT.glob("*/command.py"))


def place(file: Path) -> str:
    """Return the folder of a module, or its own name where it lies at the top."""
    return file.relative_to(ROOT).with_suffix("").parts[0]


@cache
def imports(file: Path, top_level_only: bool = False) -> frozenset[str]:
    """List what a module imports, e.g. ``fovea.geometry``; not what is for type checkers."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in walk(tree, top_level_only):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide who imports whom"
            assert node.module is not None
            names = [alias.name for alias in node.names]
            if node.module == "fovea":
                found |= {f"fovea.{name}" for name in names}
            else:
                found.add(node.module)
    return frozenset(found)


def walk(node: ast.AST, top_level_only: bool) -> list[ast.AST]:
    found = [node]
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_for_types and not (top_level_only and is_function):
            found += walk(child, top_level_only)
    return found


def ours(file: Path) -> set[str]:
    """List the parts of fovea that a module imports, besides its own folder."""
    parts = {name.split(".")[1] for name in imports(file) if name.startswith("fovea.")}
    return parts - {place(file), "__version__"}


def ids(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", [f for f in FILES if place(f) in ALLOWED], ids=ids)
def test_a_module_imports_only_what_the_table_allows(file: Path) -> None:
    assert ours(file) - ALLOWED[place(file)] == set()


def test_the_table_speaks_of_modules_that_exist() -> None:
    places = {place(file) for file in FILES}
    assert (set(ALLOWED) | BASE | TORCH_FREE) - places == set()


def test_stages_do_not_import_what_trains_them() -> None:
    for file in FILES:
        if place(file) == "stages":
            assert ours(file) & (ABOVE - {"stages"}) == set(), file


def test_nothing_but_the_command_line_knows_the_benchmarks() -> None:
    assert {place(file) for file in FILES if "bench" in ours(file)} == {"cli"}


def test_nothing_but_tests_and_benchmarks_knows_the_contract_kit() -> None:
    assert {place(file) for file in FILES if "testing" in ours(file)} <= {"bench"}


def test_the_engine_knows_no_component() -> None:
    for file in FILES:
        if place(file) in ("engine", "stages"):
            components = {"extract", "context", "backbone", "objective", "task_head"}
            assert ours(file) & components == set(), file


@pytest.mark.parametrize(
    "file", [*(ROOT / f"{n}.py" for n in sorted(TORCH_FREE)), *CONFIGS, *COMMANDS], ids=ids
)
def test_torch_free_modules_import_nothing_heavy_at_the_top(file: Path) -> None:
    seen: set[Path] = set()
    to_do = [file]
    while to_do:
        module = to_do.pop()
        seen.add(module)
        top = imports(module, top_level_only=True)
        assert {name.split(".")[0] for name in top} & HEAVY == set(), module
        files = {ROOT.parent / f"{name.replace('.', '/')}.py" for name in top}
        to_do += [one for one in files - seen if one.is_file()]


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_only_where_it_belongs(library: str) -> None:
    users = {
        place(file) for file in FILES if any(n.split(".")[0] == library for n in imports(file))
    }
    assert users - ONLY_IN[library] == set()


@pytest.mark.parametrize("file", FILES, ids=ids)
def test_a_module_is_short_and_has_a_telling_name(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < 300
    assert file.stem not in VAGUE
