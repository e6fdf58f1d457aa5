"""The fixture of the contract kit: one line in a test, and no time at the start of pytest."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest_plugins = "pytester"
CONFTEST = "from fovea.testing.fixtures import contract"  # ours, installed or not
TESTS = """
import pytest

def test_good(contract):
    contract("context_builder", "foveal", grid=2)

def test_broken(contract):
    contract("context_builder", "foveal", grid=0)

def test_unknown(contract):
    with pytest.raises(ValueError, match="no kind 'contexts'; known are backbone, context_builder"):
        contract("contexts", "foveal")
"""


def test_the_fixture_calls_the_check_of_a_kind(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        "*AssertionError: context_builder 'foveal' of fovea-vit *: The settings given to the check "
        "are valid; but it raised ConfigError: foveal.grid: *"
    )


def test_it_is_registered_with_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert list(project["entry-points"]["pytest11"].values()) == ["fovea.testing.fixtures"]


def test_pytest_starts_without_torch() -> None:
    code = "import sys, fovea.testing.fixtures; print({'torch', 'numpy'} & set(sys.modules))"
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert out.strip() == "set()"
