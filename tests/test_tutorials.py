"""Laws of the tutorials: each page, followed from an empty folder, ends in a plugin that works."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from environments import ROOT, Environment

from fovea import registry

DOCS = ROOT / "docs"
INDEX = DOCS / "tutorials" / "index.md"
PAGES = sorted({*INDEX.parent.glob("*.md")} - {INDEX})


@dataclass(frozen=True)
class Block:
    """A fenced block: where its text begins, what stands behind the fence, and its text."""

    line: int
    what: str
    text: str

    def expect(self, kept: bool, seen: str) -> None:
        assert kept, f"the block at line {self.line}: {seen}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```([^\n]+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(text.count("\n", 0, found.start(2)) + 1, found[1], found[2])


def run_commands(block: Block, environment: Environment, folder: Path) -> None:
    """Run each line that begins with $; they succeed, but for the last of a block that fails.

    What is below a command is in its output, but for spaces and line ends; ... stands for anything.
    """
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    for number, part in enumerate(parts, 1):
        command, _, expected = re.sub(r"\\\n\s*", "", part).partition("\n")
        done = environment.run(command, folder)
        shown = f"$ {command}\n{done.stdout}"
        fails = ".fails" in block.what and number == len(parts)
        block.expect((done.returncode != 0) == fails, shown)
        pattern = re.escape(" ".join(expected.split())).replace(re.escape("..."), ".*")
        found = re.search(pattern, " ".join(done.stdout.split()))
        block.expect(found is not None, f"not in the output: {expected}\n{shown}")


def write(block: Block, folder: Path) -> None:
    """Write the file that the first line names, in a comment."""
    path = folder / block.text.partition("\n")[0].removeprefix("# ")
    block.expect(path.suffix in (".py", ".toml", ".yaml"), f"no file: {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def follow(block: Block, environment: Environment, folder: Path) -> None:
    """Do what a reader does with a block."""
    if block.what in ("console", "{.console .fails}"):
        run_commands(block, environment, folder)
    elif block.what in ("{.python .file}", "{.toml .file}", "{.yaml .file}"):
        write(block, folder)
    elif block.what == "python":
        done = environment.run("python -", folder, given=block.text)
        block.expect(done.returncode == 0, done.stdout)
    else:
        block.expect(block.what in ("text", "{.python .no-run}"), f"what is {block.what}?")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_can_be_followed_from_an_empty_folder(
    page: Path, environment: Environment, tmp_path: Path
) -> None:
    for block in blocks(page):
        follow(block, environment, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_makes_tests_lists_and_trains_with_its_plugin(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for step in (
        rf"fovea new-plugin \w+ --kind {page.stem}\n",
        "pip install -e fovea-",
        "python -m pytest fovea-",
        "fovea plugins",
        r"python -m fovea\.train ",
    ):
        assert re.search(rf"^\$ {step}", text, re.MULTILINE), f"{page.name} has no {step}"


@pytest.mark.parametrize("kind", registry.INTERFACES)
def test_every_kind_has_a_page_to_which_index_and_hook_lead(kind: str) -> None:
    assert (INDEX.parent / f"{kind}.md").is_file()
    assert f"]({kind}.md)" in INDEX.read_text(encoding="utf-8")
    hooks = (DOCS / "plugins.md").read_text(encoding="utf-8")
    section = hooks.partition(f"### `{registry.HOOKS[kind]}(")[2].partition("\n##")[0]
    assert f"](tutorials/{kind}.md)" in section
