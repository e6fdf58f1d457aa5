"""One run at a time in a folder: a lock that ends with the process that holds it."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovea.config import ConfigError

_HELD = (errno.EACCES, errno.EAGAIN)


@contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is made, within this block.

    The lock is the process's own: workers do not inherit it, so that the next start need not wait
    for those of a run that was killed.

    Raises:
        ConfigError: another process trains there.
        OSError: nothing can be written there.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise ConfigError(
                    [f"run_dir: {run_dir} is in use by {holder}; wait, or use another run_dir"]
                ) from None
            print(f"{run_dir} cannot be locked ({error.strerror}); start no other run in it")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
