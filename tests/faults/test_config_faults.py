"""Configs with mistakes: each is told by its key in a line, before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.shipped import shipped_file, shipped_names

READ_ALL = """
import contextlib, io, json, sys, time
from fovea.cli import main

for line in sys.stdin:
    printed, began = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
        code = main(["config", *json.loads(line)])
    assert not {"torch", "timm", "numpy"} & set(sys.modules), line
    print(json.dumps([code, printed.getvalue(), time.perf_counter() - began]))
"""
WRONG = {
    "misspelt": "",
    "nothing": None,
    "a number": 7.5,
    "a text": "x",
    "a list": [[]],
    "nan": float("nan"),
}


def read_all(configs: list[list[str]]) -> list[tuple[int, str, float]]:
    """Read many configs as the command does, in one process without torch."""
    lines = "".join(json.dumps(words) + "\n" for words in configs)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL], input=lines, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def assert_told(result: tuple[int, str, float], what: object) -> None:
    code, printed, seconds = result
    assert code in (0, 2), (what, printed)
    lines = printed.splitlines()
    assert bool(lines) == (code == 2), what
    assert all(line.startswith("fovea: ") and ": " in line[7:] for line in lines), (what, printed)
    assert "Traceback" not in printed
    assert seconds < 2, what


def keys(tree: object, where: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """List the ways to all settings of a tree."""
    items = tree.items() if isinstance(tree, dict) else ()
    return [found for key, below in items for found in ((*where, key), *keys(below, (*where, key)))]


def changed(tree: dict, way: tuple[str, ...], fault: str) -> dict:
    """Copy a tree with one setting wrong."""
    key, *rest = way
    if rest:
        return {**tree, key: changed(tree[key], tuple(rest), fault)}
    others = {name: value for name, value in tree.items() if name != key}
    if fault == "deleted":
        return others
    if fault == "misspelt":
        return {**others, f"{key}x": tree[key]}
    return {**tree, key: WRONG[fault]}


LARGE = ("quickstart", "smoke")  # of three stages; some 500 mistakes each


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.fault if name in LARGE else ())
        for name in shipped_names("configs")
    ],
)
def test_every_key_of_a_shipped_config_deleted_misspelt_or_of_a_wrong_type_is_told(
    name: str, tmp_path: Path
) -> None:
    tree = yaml.safe_load(shipped_file("configs", name).read_text())
    faults = [(way, fault) for way in keys(tree) for fault in ("deleted", *WRONG)]
    for number, (way, fault) in enumerate(faults):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(changed(tree, way, fault)))
    results = read_all([[str(tmp_path / f"{number}.yaml")] for number in range(len(faults))])
    for (way, fault), result in zip(faults, results, strict=True):
        assert_told(result, (way, fault))
        if fault == "misspelt":
            assert result[0] == 2
            assert way[-1] == "name" or ".".join(way) + "x: " in result[1], result[1]


@pytest.mark.fault
def test_two_thousand_mutated_configs_are_good_or_told(tmp_path: Path) -> None:
    texts = [shipped_file("configs", name).read_text() for name in shipped_names("configs")]
    drawn: list[str] = []

    @settings(max_examples=2000, derandomize=True, deadline=None, database=None)
    @given(st.sampled_from(texts), st.data())
    def draw(text: str, data: st.DataObject) -> None:
        lines = text.splitlines()
        place = data.draw(st.integers(0, len(lines) - 1))
        words = st.sampled_from(
            ["", "nan", "-1", "1e400", "[", "}", "*a", "&a 1", "!!int x", "name"]
        )
        characters = st.text(st.characters(codec="utf-8"), max_size=8)
        kind = data.draw(st.sampled_from(["cut", "twice", "insert", "value", "indent"]))
        if kind == "cut":
            del lines[place]
        elif kind == "twice":
            lines.insert(place, lines[data.draw(st.integers(0, len(lines) - 1))])
        elif kind == "insert":
            column = data.draw(st.integers(0, len(lines[place])))
            new = data.draw(words | characters)
            lines[place] = lines[place][:column] + new + lines[place][column:]
        elif kind == "value":
            lines[place] = lines[place].partition(":")[0] + ": " + data.draw(words | characters)
        else:
            lines[place] = data.draw(st.sampled_from(["  ", "\t", "- "])) + lines[place]
        drawn.append("\n".join(lines) + "\n")

    draw()
    assert len(set(drawn)) > 1500
    for number, text in enumerate(drawn):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
    results = read_all([[str(tmp_path / f"{number}.yaml")] for number in range(len(drawn))])
    for text, result in zip(drawn, results, strict=True):
        assert_told(result, text)
    assert sum(code == 2 for code, *_ in results) > 1000
