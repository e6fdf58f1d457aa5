"""What tests of several files share."""

import shutil
from collections.abc import Iterator
from functools import cache

import environments
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; without such tests, torch is not imported."""
    for item in items:
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> environments.Environment:
    return environments.make(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def environment(_environment: environments.Environment) -> Iterator[environments.Environment]:
    """Give a fresh environment; what a test installs in it is gone for the next."""
    before = _environment.remember()
    yield _environment
    for installed in _environment.remember() - before:
        shutil.rmtree(installed) if installed.is_dir() else installed.unlink()
