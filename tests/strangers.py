"""Distributions of strangers, as pip would leave them, for tests of plugins."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fovea import registry

HOOK = """
from fovea import hookimpl

@hookimpl
def register_{kinds}(register):
    register("{name}", "{module}_parts:{target}")
"""
PARTS = """
from fovea.config import Section
from fovea.interfaces import ContextBuilder

class Whole(ContextBuilder):
    class Config(Section):
        pass
    num_windows = 1
    def __init__(self, config):
        pass
    def windows(self, gaze, sizes, generator):
        return gaze

class Abstract(ContextBuilder):
    class Config(Section):
        pass

class NoConfig(Whole):
    Config = None

class PlainConfig(Whole):
    class Config:
        pass

class Stranger:
    class Config(Section):
        pass

number = 3
"""


def hook(
    name: str, target: str = "Whole", module: str = "bad", kinds: str = "context_builders"
) -> str:
    return HOOK.format(name=name, target=target, module=module, kinds=kinds)


def install(
    folder: Path, distribution: str, code: str, module: str, address: str | None = None
) -> None:
    """Install a distribution, as pip would leave it: its metadata and two modules."""
    metadata = folder / f"{distribution}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(f"[fovea]\n{module} = {address or module}\n")
    (folder / f"{module}.py").write_text(code)
    (folder / f"{module}_parts.py").write_text(PARTS)


@contextmanager
def site(folder: Path) -> Iterator[Path]:
    """Install ``good`` in a folder that this process sees; forget all that it found afterwards."""
    install(folder, "good", hook("fine", module="good"), "good")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        forget()
        yield folder
    forget()
    for name in [name for name in sys.modules if name.split("_")[0] in ("good", "bad")]:
        del sys.modules[name]


def forget() -> None:
    """Have plugins discovered anew."""
    registry.discover.cache_clear()
    registry.component_class.cache_clear()
