"""Where weights lie: on this machine, or where a plugin's handler reaches, such as ``s3://``.

A plugin names a handler, a subclass of ``iopath.common.file_io.PathHandler``, in the entry-point
group ``fovea.paths``. Without one, local paths are all that is opened: none that comes with iopath
is used, since its cache of downloads can be led out of its folder by a crafted address.
"""

from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from iopath.common.file_io import PathManager


def is_remote(path: str | Path) -> bool:
    """Say whether a path is of a scheme, such as ``s3://bucket/run``."""
    return "://" in str(path)


def join(folder: str | Path, *names: str) -> str:
    """Name a file below a folder, local or remote."""
    return "/".join([str(folder).rstrip("/"), *names])


def is_file(path: str | Path) -> bool:
    """Say whether there is such a file.

    Raises:
        ValueError: no plugin opens paths of its scheme.
    """
    return bool(_manager(path).isfile(str(path)))


def local(path: str | Path) -> Path:
    """Return a local file with the contents of a path; a remote one is fetched.

    Raises:
        ValueError: no plugin opens paths of its scheme.
    """
    return Path(_manager(path).get_local_path(str(path)))


def upload(file: Path, path: str) -> None:
    """Copy a local file to a remote path, in place of what may be there.

    Raises:
        ValueError: no plugin opens paths of its scheme.
    """
    _manager(path).copy_from_local(str(file), path, overwrite=True)


@dataclass
class _Handlers:
    manager: PathManager = field(default_factory=PathManager)
    prefixes: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def load(self, plugin: EntryPoint) -> None:
        """Load one plugin's handler; if anything is wrong with it, remember why."""
        try:
            handler = plugin.load()()
            self.manager.register_handler(handler, allow_override=False)
            self.prefixes += handler._get_supported_prefixes()
        except (Exception, SystemExit) as error:  # a stranger's import may raise anything at all
            source = f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist else "unknown"
            reason = " ".join(str(error).split())
            self.broken.append(f"{plugin.name} ({source}): {type(error).__name__}: {reason}")


@cache
def _handlers() -> _Handlers:
    handlers = _Handlers()
    for plugin in entry_points(group="fovea.paths"):
        handlers.load(plugin)
    return handlers


def _manager(path: str | Path) -> PathManager:
    """Return the manager, if it can open a path."""
    handlers, text = _handlers(), str(path)
    if is_remote(path) and not text.startswith(tuple(handlers.prefixes)):
        left_out = "; left out were " + "; ".join(handlers.broken) if handlers.broken else ""
        raise ValueError(
            f"{text}: no installed plugin opens {text.partition('://')[0]}:// paths; known are "
            f"{', '.join(handlers.prefixes) or 'none'}{left_out}"
        )
    if is_remote(path) and ".." in text.split("/"):
        raise ValueError(f"{text}: '..' is not allowed in such a path")
    return handlers.manager
