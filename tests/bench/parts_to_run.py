"""Parts that go well or wrong in each way that there is; processes import them by name."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from fovea.bench.limits import NotMeasured, Verdict
from fovea.bench.parts import Finding, Setting


def good(setting: Setting) -> Iterator[Finding]:
    yield Finding(checks=(Verdict("a difference", "<=", 1.0, 0.5),))


def missing_one(setting: Setting) -> Iterator[Finding]:
    yield Finding(checks=(Verdict("one", "<=", 1.0, 2.0), Verdict("other", "<=", 1.0, 0.0)))
    yield Finding(checks=(Verdict("third", "<=", 1.0, float("nan")),))


def raising(setting: Setting) -> Iterator[Finding]:
    print("before the error")
    yield from good(setting)
    raise ValueError("a sentence\nand more")


def dying(setting: Setting) -> Iterator[Finding]:
    yield from good(setting)
    os._exit(3)


def hanging(setting: Setting) -> Iterator[Finding]:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (setting.folder / "child").write_text(str(child.pid))
    yield from good(setting)
    time.sleep(600)


def impossible(setting: Setting) -> Iterator[Finding]:
    raise NotMeasured("there is no such thing")
    yield Finding()
