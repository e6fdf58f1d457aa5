"""How much memory this process has held: not its parent's, as ``getrusage`` would say."""

import re
import resource
import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak() -> int:
    """Return the most bytes that were held at once, since ``forget_peak`` where that works."""
    if _STATUS.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        assert found is not None
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Count from what is held now on; without Linux, nothing."""
    if _RESET.is_file():
        _RESET.write_text("5")
