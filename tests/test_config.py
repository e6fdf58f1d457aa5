"""Laws of configs: every mistake is one sentence that begins with its key, and nothing is lost."""

import json
import subprocess
import sys
import time
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from fovea import cli, registry, train
from fovea.config import ConfigError, Section, merge, read_yaml, to_tree, to_yaml, validate
from fovea.recipe import ModelConfig, Recipe, model_tree, read_recipe
from fovea.schedule import Schedule
from fovea.shipped import shipped_names

law = settings(derandomize=True, deadline=None, max_examples=60)
GOOD = """\
run_dir: /dev/null/nowhere
model: vitq8_foveal
data: fashion
init: random
probe: {batch_size: 8, steps: 3, head: linear}
"""
STAGE = "{batch_size: 8, steps: 3, policy: gmm}"
PRETRAIN = "{batch_size: 8, steps: 3, objective: dino_seq2global}"
CARDS = f"known are {', '.join(shipped_names('model_zoo'))}"
TOP = ", ".join(Recipe.model_fields)

# what is changed in GOOD -> all that is printed; '...' stands for the rest of a line
MISTAKES: list[tuple[str, list[str]]] = [
    ("seeed=1", ["seeed: unknown key; did you mean 'seed'?"]),
    ("qqqq=1", [f"qqqq: unknown key; known are {TOP}"]),
    ("probe.batchsize=1", ["probe.batchsize: unknown key; did you mean 'batch_size'?"]),
    ("model.contxt=foveal", ["model.contxt: unknown key; did you mean 'context'?"]),
    ("model.context.zoms=[0]", ["model.context.zoms: unknown key; did you mean 'zooms'?"]),
    (
        "probe.optimizer.lr={start: 1, end: 0, warmpu: 0.1}",
        ["probe.optimizer.lr.warmpu: unknown key; did you mean 'warmup'?"],
    ),
    ("probe.head.heads=3", ["probe.head.heads: unknown key; known are none"]),
    ("seed=a", ["seed: input should be a valid integer, found 'a'"]),
    ("seed=1.5", ["seed: input should be a valid integer, found 1.5"]),
    ("seed=true", ["seed: input should be a valid integer, found True"]),
    ("seed='1'", ["seed: input should be a valid integer, found '1'"]),
    ("seed=", ["seed: input should be a valid integer, found None"]),
    ("seed=-1", ["seed: input should be greater than or equal to 0, found -1"]),
    (f"seed={2**63}", [f"seed: input should be less than {2**63}, found {2**63}"]),
    ("run_dir=5", ["run_dir: input should be a valid string, found 5"]),
    ("device=tpu", ["device: input should be 'auto', 'cpu' or 'cuda', found 'tpu'"]),
    ("probe.optimizer.clip=.nan", ["probe.optimizer.clip: input should be a finite number, ..."]),
    ("probe.optimizer.clip=0", ["probe.optimizer.clip: input should be greater than 0, found 0"]),
    ("probe.optimizer.betas=0.9", ["probe.optimizer.betas: input should be a valid tuple, ..."]),
    ("data.size=[1, a]", ["data.size.1: input should be a valid integer, found 'a'"]),
    ("data.garment=[0.9, 0.5]", ["data.garment: expected 0 < least <= greatest <= 1, ..."]),
    ("model.context.grid_zoom=[4, 3]", ["model.context.grid_zoom: the lowest comes first, ..."]),
    ("model.channels=2", ["model.channels: input should be 1 or 3, found 2"]),
    ("model.patch_size=0", ["model.patch_size: input should be greater than or equal to 1, ..."]),
    (
        "probe.optimizer.lr.start=1",
        ["probe.optimizer.lr.end: required (value at the end)"],
    ),
    (
        "probe.optimizer.lr=much",
        ["probe.optimizer.lr: expected 'key: value' lines below it, found 'much'"],
    ),
    (
        "probe.optimizer.lr=null",
        ["probe.optimizer.lr: expected 'key: value' lines below it, found nothing"],
    ),
    (
        "probe.optimizer.lr={start: 1, end: 0, warmup: 0.5, until: 0.2}",
        ["probe.optimizer.lr: warmup (0.5) must end before until (0.2)"],
    ),
    ("probe=5", ["probe: expected 'key: value' lines below it, found 5"]),
    ("model=5", ["model: expected 'key: value' lines below it, found 5"]),
    ("pretrain={batch_size: 8, steps: 3}", ["pretrain.objective: required (the loss)"]),
    ("probe.epochs=3", ["probe: give either epochs or steps, and not both"]),
    ("probe.steps=null", ["probe: give either epochs or steps, and not both"]),
    ("probe.scheduled_epochs=3", ["probe: scheduled_epochs goes with epochs and ..."]),
    ("data.name=null", ["data.name: required; known are fashion, folder, hugging_face, shards"]),
    (
        "data=folder",
        [
            "data.root: required (the folder; ...",
        ],
    ),
    (
        "model.context=fovael",
        ["model.context.name: no context_builder is called 'fovael'; did you mean 'foveal'? ..."],
    ),
    (
        "model=vits16",
        [f"model.name: no model is called 'vits16'; did you mean 'vits16_foveal'? {CARDS}"],
    ),
    ("probe=null", ["config: no stage to run; give at least one of pretrain, probe, policy"]),
    ("init=null", ["config: probe starts from trained weights; set init to their run_dir"]),
    (f"probe=null policy={STAGE}", ["config: policy needs a trained probe; set init to its ..."]),
    (
        f"probe=null policy={STAGE} pretrain={PRETRAIN}",
        ["config: policy needs the probe stage before it"],
    ),
    ("seed", ["seed: expected key=value, e.g. seed=1"]),
    ("=3", ["=3: expected key=value, e.g. seed=1"]),
    ("seed=[1", ["seed=[1: while parsing ..."]),
    (f"seed={'[' * 1000}", ["seed=[[[..."]),
    (f"seed={'9' * 5000}", ["seed=999..."]),
    ("seed=${nothing}", ["seed=${nothing}: Interpolation key 'nothing' not found ..."]),
    (
        "model=vits17 seed=-1 zz=1 probe.head.heads=3",
        [
            "model.name: no model is called 'vits17'; ...",
            "probe.head.heads: unknown key; known are none",
            "seed: input should be greater than or equal to 0, found -1",
            "zz: unknown key; ...",
        ],
    ),
]
BAD_FILES = [
    ("seed: 1\nseed: 2\n", "{file}: not valid YAML: ... duplicate key seed ..."),
    ("seed: &a 1\nkeep: *a\n", "{file}:2: YAML aliases (*name) are not allowed"),
    ("seed: [1\n", "{file}: not valid YAML: ..."),
    ("- a\n- b\n", "{file}: expected 'key: value' lines at the top level"),
    ("1: 2\n", "{file}: expected 'key: value' lines at the top level"),
    ("a: \0", "{file}: not valid YAML: ..."),
    ("seed: " + "[" * 1000, "{file}: not valid YAML: ..."),
    ("seed: " + "9" * 5000, "{file}: not valid YAML: ..."),
    ("run_dir: ${nothing}", "{file}: not valid YAML: Interpolation key 'nothing' ..."),
]


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return str(file)


def words(change: str) -> list[str]:
    """Split ``a=1 b=2`` at spaces that begin a new key."""
    found: list[str] = []
    for word in change.split(" "):
        is_key = "=" in word and not word.startswith(("'", "["))
        found = [*found, word] if is_key or not found else [*found[:-1], f"{found[-1]} {word}"]
    return found


def is_like(line: str, pattern: str) -> bool:
    """Compare a line with a pattern in which '...' stands for anything."""
    first, *rest = pattern.split("...")
    if not rest:
        return line == pattern
    return line.startswith(first) and all(part in line for part in rest)


def complaints(capsys: pytest.CaptureFixture[str], argv: Sequence[str]) -> list[str]:
    assert train.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    lines = printed.err.splitlines()
    assert all(line.startswith("fovea: ") for line in lines)
    return [line.removeprefix("fovea: ") for line in lines]


def test_the_config_that_mistakes_are_made_in_is_good(good: str) -> None:
    assert read_recipe(good).stages() == ["probe"]


@pytest.mark.parametrize(("change", "wanted"), MISTAKES, ids=[c[:40] for c, _ in MISTAKES])
def test_every_mistake_is_one_line_that_begins_with_its_key(
    good: str, capsys: pytest.CaptureFixture[str], change: str, wanted: list[str]
) -> None:
    found = sorted(complaints(capsys, [good, *words(change)]))
    assert len(found) == len(wanted), found
    for line, pattern in zip(found, sorted(wanted), strict=True):
        assert is_like(line, pattern), line


@pytest.mark.parametrize(("text", "wanted"), BAD_FILES, ids=[t[:20] for t, _ in BAD_FILES])
def test_an_unreadable_file_is_one_line_that_begins_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, wanted: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    [line] = complaints(capsys, [str(file)])
    assert is_like(line, wanted.format(file=file)), line


def test_a_missing_file_names_the_shipped_configs(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = complaints(capsys, ["quikstart"])
    assert is_like(line, "quikstart: no such file; ...did you mean 'quickstart'? known are ...")


class _Range(Section):
    low: float = Field(description="low")
    high: float = Field(description="high")


class _Owner(Section):
    range: _Range = Field(description="range")

    @model_validator(mode="after")
    def _ordered(self) -> "_Owner":
        if self.range.low > self.range.high:
            raise ValueError("range: the lowest comes first")
        return self


def test_a_section_does_not_judge_a_child_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as error:
        validate(_Owner, {"range": {"low": "a", "high": 1}})
    assert error.value.lines == ["range.low: input should be a valid number, found 'a'"]
    with pytest.raises(ConfigError, match="range: the lowest comes first"):
        validate(_Owner, {"range": {"low": 2, "high": 1}})


def test_an_exponent_without_a_point_is_a_number(good: str) -> None:
    recipe = read_recipe(good, ["probe.optimizer.lr=1e-3"])
    assert recipe.probe is not None
    assert recipe.probe.optimizer.lr == Schedule(start=1e-3, end=1e-3)


def test_a_changed_name_drops_the_keys_of_the_old_section() -> None:
    below = {"a": {"name": "foveal", "grid": 3}, "b": 1}
    assert merge(below, {"a": {"name": "grid"}}) == {"a": {"name": "grid"}, "b": 1}
    assert merge(below, {"a": {"name": "foveal"}}) == below
    assert merge(below, {"a": {"zooms": [1]}})["a"] == {"name": "foveal", "grid": 3, "zooms": [1]}


def test_a_bare_name_is_a_section_that_overrides_can_go_into(good: str) -> None:
    recipe = read_recipe(good, ["model.context.grid=7", "data.size=[9, 9]"])
    assert to_tree(recipe.model.context)["grid"] == 7
    assert to_tree(recipe.data)["size"] == [9, 9]


@pytest.mark.parametrize("name", shipped_names("configs"))
@pytest.mark.parametrize("change", [[], ["seed=3", "model.backbone.width=null"]])
def test_a_resolved_shipped_config_reads_back_equal(
    name: str, change: list[str], tmp_path: Path
) -> None:
    if "data.root" in to_error(name):
        change = [*change, "data.root=somewhere"]
    recipe = read_recipe(name, change)
    file = tmp_path / "resolved.yaml"
    file.write_text(to_yaml(recipe))
    assert read_recipe(str(file)) == recipe
    assert validate(Recipe, read_yaml(file)) == recipe


def to_error(name: str) -> str:
    try:
        read_recipe(name)
    except ConfigError as error:
        return str(error)
    return ""


@settings(law, max_examples=15)
@given(run_dir=st.text(st.characters(codec="utf-8", exclude_characters="$\\")), seed=st.integers(0))
def test_a_resolved_config_reads_back_equal_whatever_its_words(run_dir: str, seed: int) -> None:
    tree = {
        "run_dir": run_dir,
        "seed": seed % 2**63,
        "model": model_tree("vitq8_foveal"),
        "data": {"name": "folder", "root": run_dir},
        "pretrain": {"batch_size": 2, "epochs": 1.5, "objective": "dino_seq2global"},
    }
    recipe = validate(Recipe, tree)
    assert validate(Recipe, _read(to_yaml(recipe))) == recipe


def _read(text: str) -> dict[str, Any]:
    class Text:
        def read_text(self, encoding: str) -> str:
            return text

    return read_yaml(typing.cast(Path, Text()))


@pytest.mark.parametrize("name", shipped_names("model_zoo"))
def test_every_model_card_builds_a_model_config(name: str) -> None:
    config = validate(ModelConfig, model_tree(name), "model.")
    assert config.name == name
    assert validate(ModelConfig, to_tree(config)) == config


def sections(section: type[Section]) -> list[type[Section]]:
    found = [section]
    for info in section.model_fields.values():
        for option in (info.annotation, *typing.get_args(info.annotation)):
            if isinstance(option, type) and issubclass(option, Section):
                found += sections(option)
    return found


@pytest.mark.parametrize(
    "section",
    [Recipe, *(registry.config_class(one.kind, one.name) for one in registry.registrations())],
)
def test_every_setting_has_a_description(section: type[Section]) -> None:
    for one in sections(section):
        for key, info in one.model_fields.items():
            if one.__name__ != "Component":
                assert info.description, f"{one.__name__}.{key}"


@pytest.mark.parametrize(
    "code",
    [
        "import fovea",
        "import fovea.train; fovea.train.main(['--help'])",
        "import fovea.train; assert fovea.train.main(['quickstart', 'seeed=1']) == 2",
        "import fovea.cli; assert fovea.cli.main(['config', 'quickstart']) == 0",
        "import fovea; assert fovea.list_models('vits*') == ['vits16_foveal']",
    ],
)
def test_start_up_is_quick_and_imports_no_torch(code: str) -> None:
    program = f"""
import sys
try:
    {code}
except SystemExit:
    pass
assert not {{"torch", "timm", "numpy"}} & set(sys.modules)
"""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert time.perf_counter() - start < 2


def test_a_schedule_runs_from_start_to_end_and_stays() -> None:
    for shape in ("cosine", "linear"):
        schedule = Schedule(start=1.0, end=0.2, shape=shape, warmup=0.1, until=0.6)
        assert schedule.at(0.0) == 0.0
        assert schedule.at(0.05) == pytest.approx(0.5)
        assert schedule.at(0.1) == pytest.approx(1.0)
        assert schedule.at(0.35) == pytest.approx(0.6)  # half-way, for both shapes
        assert schedule.at(0.6) == schedule.at(0.9) == schedule.at(1.0) == 0.2
        falling = [schedule.at(0.1 + i / 100) for i in range(51)]
        assert falling == sorted(falling, reverse=True)


@law
@given(st.floats(-10, 10), st.floats(-1.0, 2.0))
def test_a_number_is_a_constant_schedule(value: float, progress: float) -> None:
    schedule = Schedule.model_validate(Schedule.from_number(value))
    assert schedule.at(progress) == pytest.approx(value)


@law
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.0, 0.4), st.floats(0.5, 1.0))
def test_a_schedule_is_clamped_and_without_jumps(
    start: float, end: float, warmup: float, until: float
) -> None:
    schedule = Schedule(start=start, end=end, warmup=warmup, until=until)
    assert schedule.at(1.0) == schedule.at(7.0) == end
    assert schedule.at(-1.0) == schedule.at(0.0)
    for edge in {warmup, until} - {0.0}:
        if edge > 1e-3:
            step = 1e-9 * edge
            assert schedule.at(edge - step) == pytest.approx(schedule.at(edge), abs=1e-3)


def test_the_commands_that_help_to_write_configs_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "quickstart", "seed=9"]) == 0
    assert "\nseed: 9\n" in capsys.readouterr().out
    assert cli.main(["config", "quickstart", "seeed=9"]) == 2
    assert cli.main(["plugins"]) == 0
    assert "register_patch_extractors  integral, " in capsys.readouterr().out
    assert cli.main(["models", "vitq*"]) == 0
    assert capsys.readouterr().out == "vitq8_foveal\n"


def references(node: object) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return here + [found for item in node.values() for found in references(item)]


def test_the_schema_is_self_contained_and_knows_the_short_forms(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["schema"]) == 0
    text = capsys.readouterr().out
    schema = json.loads(text)
    assert text.count('"$defs"') == 1
    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"], reference
    assert {"type": "number"} in schema["$defs"]["Schedule"]["oneOf"]
    names, card = schema["$defs"]["ModelConfig"]["oneOf"]
    assert names == {"enum": shipped_names("model_zoo")}
    assert {"required": ["name"]} in card["anyOf"]
    assert card["properties"]["backbone"]["$ref"] == "#/$defs/component.backbone"
    backbones = schema["$defs"]["component.backbone"]["oneOf"]
    assert backbones[0] == {"enum": registry.names("backbone")}
    assert backbones[1]["properties"]["name"] == {"const": "timm_vit"}


class Shape(Section):
    """A section whose keys are required, as long as no field gives it a default."""

    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")


class Screen(Section):
    """A section with such a default, and with a schedule, which is one value."""

    shape: Shape = Field(Shape(width=4, height=3), description="its shape")
    light: Schedule = Field(Schedule(start=1.0, end=0.0, warmup=0.1), description="its light")


def test_keys_of_a_section_are_laid_over_its_fields_default_but_a_schedule_is_whole() -> None:
    assert validate(Screen, {"shape": {"width": 8}}).shape == Shape(width=8, height=3)
    light = validate(Screen, {"light": {"start": 2.0, "end": 0.5}}).light
    assert light == Schedule(start=2.0, end=0.5)
    with pytest.raises(ConfigError, match=r"^shape.widht: unknown key; did you mean 'width'\?$"):
        validate(Screen, {"shape": {"widht": 8}})
