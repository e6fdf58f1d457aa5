"""The hooks: one per interface, each hands out names for classes.

A plugin is a module (or object) in the entry-point group ``fovea`` with functions like::

    from fovea import hookimpl

    @hookimpl
    def register_backbones(register):
        register("my_vit", "my_package.my_vit:MyViT", config="my_package.config:MyViTConfig")

Hooks only register: they touch no disk and no network, and import nothing heavy.
"""

from typing import Protocol

import pluggy

hookspec = pluggy.HookspecMarker("fovea")
hookimpl = pluggy.HookimplMarker("fovea")


class Register(Protocol):
    """Hand out ``name`` for the class at ``target`` ("module:Class").

    ``config`` is the address of its Config, where that lives in a module that imports no torch:
    then a mistake in a YAML file is reported at once. Without it, the class's own ``Config`` is
    used, and looking at it imports the class.
    """

    def __call__(self, name: str, target: str, *, config: str | None = None) -> None:
        """Register one component."""


@hookspec
def register_patch_extractors(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.PatchExtractor``."""


@hookspec
def register_context_builders(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.ContextBuilder``."""


@hookspec
def register_backbones(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.Backbone``."""


@hookspec
def register_ssl_objectives(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.SSLObjective``."""


@hookspec
def register_gaze_policies(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.GazePolicy``."""


@hookspec
def register_task_heads(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.TaskHead``."""


@hookspec
def register_data_sets(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.DataSet``."""


@hookspec
def register_loggers(register: Register) -> None:
    """Register implementations of ``fovea.interfaces.Logger``."""
