"""A fresh environment, as a stranger has one: fovea and what it needs, and no plugin."""

import os
import site
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_OFFLINE = {  # pip takes what is here, or fails
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # so pip reads it: build isolation is 0
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment with this checkout installed; it sees the packages of the tests' own.

    Attributes:
        folder: where it is.
        packages: where it has its own packages.
    """

    folder: Path
    packages: Path

    def run(
        self, command: str, folder: Path, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a line of bash in a folder, ``given`` on its stdin; what it prints is in stdout."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        kept = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
        return subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={**kept, **_OFFLINE, "PATH": path, "OMP_NUM_THREADS": "1"},
            input="" if given is None else given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def remember(self) -> set[Path]:
        """List what is installed."""
        return {*self.packages.iterdir(), *(self.folder / "bin").iterdir()}


def make(folder: Path) -> Environment:
    """Make one in a folder, without network; pip is the one of the tests' own."""
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    shared = [*site.getsitepackages(), site.getusersitepackages()]
    (packages / "shared.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    pip = folder / "bin" / "pip"
    pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n', encoding="utf-8")
    pip.chmod(0o755)
    made = Environment(folder, packages)
    done = made.run(f"pip install -e '{ROOT}'", folder)
    assert done.returncode == 0, done.stdout
    return made
