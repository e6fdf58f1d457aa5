"""What tests of several files share."""

import shutil
from collections.abc import Iterator

import environments
import pytest


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
