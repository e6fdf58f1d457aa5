"""Laws of the registry: whoever brings a component is named, and a broken plugin hurts nobody."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import strangers
from strangers import hook, install

import fovea
from fovea import registry
from fovea.config import ConfigError
from fovea.registry import INTERFACES, RegistryError


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """Give a folder of installed distributions, among them ``good``, seen by this process."""
    with strangers.site(tmp_path) as folder:
        yield folder


def broken() -> dict[str, str]:
    """Discover; say what was left out and check that the healthy are there."""
    assert "fine" in registry.names("context_builder")
    assert "foveal" in registry.names("context_builder")
    assert type(fovea.create("context_builder", "fine")).__name__ == "Whole"
    return {str(plugin): reason for plugin, reason in registry.discover().broken.items()}


def test_the_built_ins_enter_through_the_entry_point_group() -> None:
    assert "fovea.builtin" in {plugin.value for plugin in entry_points(group="fovea")}
    assert {one.kind for one in registry.registrations()} == set(INTERFACES)
    for one in registry.registrations():
        assert registry.component_class(one.kind, one.name).Config is registry.config_class(
            one.kind, one.name
        )


def test_a_strangers_component_is_found_and_says_who_brought_it(site: Path) -> None:
    assert broken() == {}
    assert registry.lookup("context_builder", "fine").distribution == "good 1.0"


LEFT_OUT = {
    "import error": ("import nothing_of_this_name", None, "ModuleNotFoundError: No module named"),
    "exit at import": ("raise SystemExit('bye')", None, "SystemExit: bye"),
    "error at import": ("1 / 0", None, "ZeroDivisionError: division by zero"),
    "syntax error": ("def :", None, "SyntaxError: invalid syntax"),
    "misspelt hook": (hook("x", kinds="contexts_builder"), None, "unknown hook 'register_contexts"),
    "wrong argument": (
        hook("x").replace("(register)", "(registar)", 1),
        None,
        "Argument(s) {'registar'} are declared in the hookimpl but",
    ),
    "nothing": ("", None, "it registers nothing: no function is marked with @fovea.hookimpl"),
    "bad address": (hook("x"), "no such : thing", "Error: "),
    "missing attribute": (hook("x"), "bad:plugin", "AttributeError: module 'bad' has no attribute"),
    "bad target": (hook("x").replace(":Whole", ""), None, "'bad_parts' is not of the form 'module"),
    "bad name": (hook("a-b"), None, "'a-b' is no good name: use letters, digits and underscores"),
    "failing hook": (
        hook("x").replace("    register(", "    1 / 0  # "),
        None,
        "ZeroDivisionError",
    ),
    "twice itself": (
        hook("x") + '    register("x", "bad:Y")\n',
        None,
        "'x' is registered twice by",
    ),
    "name of ours": (
        hook("foveal"),
        None,
        "context_builder 'foveal' is already registered by fovea-vit",
    ),
    "name of another": (hook("fine", module="bad"), None, "'fine' is already registered by"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_broken_plugin_is_left_out_by_name_and_the_good_one_works(
    case: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, address, reason = LEFT_OUT[case]
    folder = site / "later"  # behind 'good' on the path, so that it comes second
    install(folder, "bad-dist", code, "bad", address)
    sys.path.append(str(folder))
    try:
        found = broken()
        [label] = found
    finally:
        sys.path.remove(str(folder))
    assert label == "bad (bad-dist 1.0)"
    assert reason in found[label]
    printed = capsys.readouterr().err
    assert printed == f"fovea: plugin {label} was left out: {found[label]}\n"
    with pytest.raises(RegistryError, match=r"left out were bad \(bad-dist 1.0\): "):
        registry.lookup("context_builder", "x")


def test_a_name_registered_twice_names_both_distributions(site: Path) -> None:
    install(site, "rival", hook("fine", module="bad"), "bad")
    [(plugin, reason)] = registry.discover().broken.items()
    both = {"good 1.0", "rival 1.0"}
    assert {name for name in both if name in f"{plugin} {reason}"} == both


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("Stranger", "is not a subclass of fovea.interfaces.ContextBuilder"),
        ("Abstract", "does not implement windows"),
        ("NoConfig", "has no class Config"),
        ("PlainConfig", "its Config is not a fovea.config.Section"),
        ("Missing", "cannot be imported: AttributeError: module 'bad_parts' has no attribute"),
        ("number", "bad_parts:number is not a class"),
    ],
)
def test_a_class_that_does_not_keep_its_promises_is_refused_when_used(
    target: str, reason: str, site: Path
) -> None:
    install(site / "more", "bad-dist", hook("x", target), "bad")
    sys.path.append(str(site / "more"))
    try:
        assert broken() == {}
        with pytest.raises(RegistryError, match=r"context_builder 'x' of bad-dist 1.0") as error:
            fovea.create("context_builder", "x")
    finally:
        sys.path.remove(str(site / "more"))
    assert reason in str(error.value)


@pytest.mark.parametrize("code", ["def :", "raise SystemExit(3)", "1 / 0", "import nothing_here"])
def test_a_class_whose_module_fails_is_refused_when_used(code: str, site: Path) -> None:
    install(site, "bad-dist", hook("x"), "bad")
    (site / "bad_parts.py").write_text(code)
    assert broken() == {}
    with pytest.raises(RegistryError, match=r"'x' of bad-dist 1.0 cannot be imported: \w+"):
        registry.config_class("context_builder", "x")


def test_a_registered_config_must_be_the_classes_own(site: Path) -> None:
    code = hook("x").replace(':Whole"', ':Whole", config="fovea.context.config:GridConfig"')
    install(site, "bad-dist", code, "bad")
    with pytest.raises(RegistryError, match="has another Config than the registered fovea"):
        fovea.create("context_builder", "x")


def test_a_config_that_uses_a_broken_plugin_stops_with_one_line(site: Path) -> None:
    install(site, "bad-dist", "1 / 0", "bad")
    command = [sys.executable, "-m", "fovea.train", "quickstart", "model.context=x"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    left_out, mistake = done.stderr.splitlines()
    assert "plugin bad (bad-dist 1.0) was left out: ZeroDivisionError" in left_out
    assert mistake.startswith("fovea: model.context.name: no context_builder is called 'x'")
    listed = subprocess.run(
        [sys.executable, "-m", "fovea.cli", "plugins"],
        capture_output=True, text=True, env=environment, check=True,
    ).stdout  # fmt: skip
    assert "left out: bad (bad-dist 1.0): ZeroDivisionError: division by zero" in listed
    assert "good: good 1.0, module good\n  register_context_builders  fine\n" in listed


def test_fovea_disable_leaves_plugins_out(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "bad-dist", "1 / 0", "bad")
    monkeypatch.setenv("FOVEA_DISABLE", "bad, good")
    assert registry.discover().broken == {}
    assert {str(plugin) for plugin in registry.discover().disabled} == {
        "bad (bad-dist 1.0)",
        "good (good 1.0)",
    }
    assert "fine" not in registry.names("context_builder")
    assert "bad" not in sys.modules


def test_fovea_disable_of_an_unknown_plugin_is_said_once_and_hurts_nobody(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOVEA_DISABLE", "godo")
    assert broken() == {}
    assert registry.names("context_builder").count("fine") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(
        "fovea: FOVEA_DISABLE: no plugin is called 'godo'; did you mean 'good'? known are builtin,"
    )


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(RegistryError) as error:
        registry.lookup("gaze_policy", "gmn")
    assert str(error.value) == (
        "no gaze_policy is called 'gmn'; did you mean 'gmm'? known are gmm, random"
    )
    with pytest.raises(RegistryError, match=r"^no kind is called 'policy'; did you mean 'gaze_"):
        fovea.create("policy", "gmm")


def test_create_takes_config_fields_and_sizes() -> None:
    made: Any = fovea.create("patch_extractor", "integral", mode="nearest", patch_size=7)
    assert (made.mode, made.patch_size, made.fill) == ("nearest", 7, (0.5,))


def test_create_names_missing_sizes_and_wrong_settings() -> None:
    with pytest.raises(ConfigError, match=r"^gaze_policy random: needs num_state_tokens, width$"):
        fovea.create("gaze_policy", "random")
    with pytest.raises(ConfigError, match=r"^integral\.mood: unknown key; did you mean 'mode'\?$"):
        fovea.create("patch_extractor", "integral", patch_size=7, mood="exact")


def test_discovery_of_plugins_imports_no_torch(site: Path) -> None:
    code = (
        "import json, sys; from fovea import registry; "
        "print(json.dumps([registry.names('context_builder'), 'torch' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    out = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert json.loads(out) == [["fine", "foveal", "grid", "multizoom"], False]
