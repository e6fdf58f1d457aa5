"""Laws of ``fovea plugins``: what is installed, whose it is, and what its settings are."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import strangers
from strangers import hook, install

from fovea import registry
from fovea.describe import inner_sections
from fovea.plugins import main

TWO_LEVELS = '''
from pydantic import Field
from fovea.config import Section

class Crop(Section):
    """Of an image."""
    share: float = Field(description="of the area")

class Config(Section):
    """Settings."""
    crop: Crop = Field(Crop(share=0.5), description="what is seen")
    mode: str | None = Field(None, description="how")
'''


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with strangers.site(tmp_path) as folder:
        yield folder


def say(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Run the command; return what it prints, to stderr where it fails."""
    assert main(words) == code
    printed = capsys.readouterr()
    return printed.err if code else printed.out


def test_the_list_has_each_plugin_its_hooks_and_what_is_left_out_or_disabled(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "bad-dist", "1 / 0", "bad")
    install(site, "quiet", hook("loud", module="bad_quiet"), "bad_quiet")
    monkeypatch.setenv("FOVEA_DISABLE", "bad_quiet")
    lines = say(capsys).splitlines()
    place = lines.index("good: good 1.0, module good")
    assert lines[place + 1] == "  register_context_builders  fine"
    assert "left out: bad (bad-dist 1.0): ZeroDivisionError: division by zero" in lines
    assert "disabled by FOVEA_DISABLE: bad_quiet (quiet 1.0)" in lines
    names = {name for line in lines if line.startswith("  ") for name in line.split()[1:]}
    assert {name.strip(",") for name in names} == {one.name for one in registry.registrations()}


def test_ours_come_first_and_the_others_by_name(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site / "a", "zebra", hook("one", module="good"), "a_zebra")
    install(site / "a", "ape", hook("other", module="good"), "an_ape")
    sys.path.append(str(site / "a"))
    try:
        heads = [line.partition(":")[0] for line in say(capsys).splitlines() if line[0] != " "]
    finally:
        sys.path.remove(str(site / "a"))
    assert heads[0] == "builtin"
    assert heads[1:] == sorted(heads[1:])


@pytest.mark.parametrize("one", list(registry.registrations()), ids=lambda one: one.name)
def test_show_has_a_line_for_every_setting(
    one: registry.Registration, capsys: pytest.CaptureFixture[str]
) -> None:
    text = say(capsys, "show", one.name, "--kind", one.kind)
    assert f"{one.kind} {one.name}\n  plugin     {one.plugin}\n  class      {one.target}\n" in text
    for path, section in inner_sections(registry.config_class(one.kind, one.name)):
        for key, info in section.model_fields.items():
            row = next(line for line in text.splitlines() if line.startswith(f"    {path}{key} "))
            assert row.endswith(f"  {info.description}".replace("`", ""))


def test_show_tells_types_defaults_and_where_a_config_chooses_it(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = hook("deep").replace(':Whole"', ':Whole", config="bad_config:Config"')
    install(site, "bad-dist", code, "bad")
    (site / "bad_config.py").write_text(TWO_LEVELS)
    assert say(capsys, "show", "deep") == (
        "context_builder deep\n"
        "  plugin     bad (bad-dist 1.0)\n"
        "  class      bad_parts:Whole\n"
        "  chosen at  model.context, model.vit_context\n"
        "  settings   key, type, default, meaning\n"
        "    crop        section  {share: 0.5}  what is seen\n"
        "    mode        text     none          how\n"
        "    crop.share  number   required      of the area\n"
    )


def test_show_takes_a_plugin_for_all_that_it_brought(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(capsys, "show", "good") == say(capsys, "show", "fine")
    ours = say(capsys, "show", "builtin")
    assert ours.count("\n  class ") == len(list(registry.registrations())) - 1


def test_show_says_why_there_is_nothing_to_show(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "bad-dist", "1 / 0", "bad")
    install(site, "stranger", hook("odd", target="PlainConfig", module="bad_odd"), "bad_odd")
    install(site, "quiet", hook("loud", module="bad_quiet"), "bad_quiet")
    monkeypatch.setenv("FOVEA_DISABLE", "bad_quiet")
    assert "did you mean 'fine'? known are bad_odd, builtin" in say(capsys, "show", "fime", code=2)
    reasons = {
        "bad": "plugin bad (bad-dist 1.0) was left out: ZeroDivisionError: division by zero",
        "bad_quiet": "plugin bad_quiet (quiet 1.0) is disabled by FOVEA_DISABLE",
        "odd": "context_builder 'odd' of stranger 1.0: its Config is not a fovea.config.Section",
    }
    for name, reason in reasons.items():
        assert say(capsys, "show", name, code=2) == f"fovea: {reason}\n"
    assert "no kind is called 'context'" in say(capsys, "show", "fine", "--kind", "context", code=2)
    assert "no task_head is called 'fine'" in say(
        capsys, "show", "fine", "--kind", "task_head", code=2
    )


def test_nothing_of_it_imports_torch() -> None:
    code = (
        "import sys; from fovea.cli import main; main(['plugins']); "
        "main(['plugins', 'show', 'builtin']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
