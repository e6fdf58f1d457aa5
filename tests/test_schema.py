"""Laws of ``fovea schema``: plugins' settings are in it, and do not get in each other's way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import strangers
from strangers import hook, install

from fovea.config import merge, parse_overrides, read_yaml
from fovea.schema import json_schema
from fovea.shipped import shipped_file, shipped_names

CONFIG = '''
from pydantic import Field
from fovea.config import Section
from fovea.schedule import Schedule as Ours

class {inner}(Section):
    """Of a view."""
    {key}: int = Field(1, description="a number")

class Config(Section):
    """Settings."""
    inner: {inner} = Field({inner}(), description="a section")
    rate: Ours = Field(Ours(start=1.0, end=0.0), description="over training")
'''


def mistakes(schema: dict[str, Any], tree: dict[str, Any]) -> list[str]:
    """List the keys at which a config does not fit a schema, as an editor marks them."""
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    validator.check_schema(schema)
    return [
        ".".join(map(str, error.absolute_path)) for error in validator(schema).iter_errors(tree)
    ]


def quickstart(*overrides: str) -> dict[str, Any]:
    return merge(read_yaml(shipped_file("configs", "quickstart")), parse_overrides(overrides))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with strangers.site(tmp_path) as folder:
        yield folder


def add(site: Path, name: str, inner: str, key: str) -> None:
    """Install a context ``name`` that has a section of its own, a class called ``inner``."""
    code = hook(name, module="good").replace(':Whole"', f':Whole", config="bad_{name}:Config"')
    install(site, f"dist_{name}", code, f"bad_{name}_hook")
    (site / f"bad_{name}.py").write_text(CONFIG.format(inner=inner, key=key))


def inner_keys(schema: dict[str, Any], name: str) -> list[str]:
    """Find the keys of the inner section of a context."""
    options = schema["$defs"]["component.context_builder"]["oneOf"]
    option = next(one for one in options[1:] if one["properties"]["name"] == {"const": name})
    reference = option["properties"]["inner"]["$ref"]
    return list(schema["$defs"][reference.removeprefix("#/$defs/")]["properties"])


@pytest.mark.parametrize("inner", ["Crop", "CropConfig", "OptimizerConfig", "Schedule", "Recipe"])
def test_sections_of_two_plugins_with_one_class_name_stay_apart(inner: str, site: Path) -> None:
    add(site, "one", inner, "left")
    add(site, "other", inner, "right")
    schema = json_schema()
    assert inner_keys(schema, "one") == ["left"]
    assert inner_keys(schema, "other") == ["right"]
    shorthands = [
        one for one in schema["$defs"].values() if {"type": "number"} in one.get("oneOf", [])
    ]
    assert len(shorthands) == 1  # our schedule, which both refer to, may be a number
    assert "run_dir" in schema["properties"]


def test_a_component_that_cannot_be_described_is_named_and_the_others_are_there(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(site, "one", "Crop", "left")
    install(site, "bad-dist", hook("x", target="Missing"), "bad")
    schema = json_schema()
    assert inner_keys(schema, "one") == ["left"]
    assert capsys.readouterr().err.startswith(
        "fovea: context_builder 'x' is not described: context_builder 'x' of bad-dist 1.0 cannot be"
    )
    names, *_ = schema["$defs"]["component.context_builder"]["oneOf"]
    assert {"x", "one", "foveal"} <= set(names["enum"])


def test_what_holds_components_refers_to_all_of_their_kind() -> None:
    schema = json_schema()
    stage = schema["$defs"]["PretrainConfig"]["properties"]
    assert stage["objective"]["$ref"] == "#/$defs/component.ssl_objective"
    loggers = schema["properties"]["loggers"]
    assert loggers["items"] == {"$ref": "#/$defs/component.logger"}
    assert (loggers["type"], loggers["default"]) == ("array", [])


@pytest.mark.parametrize("name", shipped_names("configs"))
def test_every_config_that_ships_is_valid_with_what_its_command_gives(name: str) -> None:
    file = shipped_file("configs", name)
    command, *_ = file.read_text(encoding="utf-8").splitlines()
    given = parse_overrides([word for word in command.split() if "=" in word])
    assert mistakes(json_schema(), merge(read_yaml(file), given)) == []


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("seed=-1", "seed"),
        ("sede=1", ""),
        ("pretrain.batch_size=many", "pretrain"),
        ("data={name: folder}", "data"),
        ("data.size=[56]", "data"),
        ("model=vitq9_foveal", "model"),
    ],
)
def test_mistake_in_a_config_is_marked(override: str, where: str) -> None:
    assert mistakes(json_schema(), quickstart(override)) == [where]


def test_of_a_section_with_a_default_some_keys_are_enough() -> None:
    schema, key = json_schema(), "pretrain.objective.global_crop"
    assert mistakes(schema, quickstart(f"{key}={{grid: 4}}")) == []
    assert mistakes(schema, quickstart(f"{key}={{gird: 4}}"))
    assert mistakes(schema, quickstart("pretrain.optimizer.weight_decay={start: 0.1}"))


def test_settings_of_an_installed_plugin_are_checked(site: Path) -> None:
    add(site, "one", "Crop", "left")
    schema, key = json_schema(), "model.context"
    assert mistakes(schema, quickstart(f"{key}=one")) == []
    assert mistakes(schema, quickstart(f"{key}={{name: one, inner: {{left: 2}}, rate: 0.5}}")) == []
    assert mistakes(schema, quickstart(f"{key}={{name: one, inner: {{left: two}}}}")) == ["model"]
    assert mistakes(schema, quickstart(f"{key}={{name: one, right: 2}}")) == ["model"]
