"""The contract kit: one call checks a registered component against all that its interface promises.

    from fovea.testing import check_backbone

    def test_contract():
        check_backbone("my_vit", depth=2)

A broken rule raises an AssertionError with one sentence: the component, the rule, what was seen.
Nothing here imports torch until a check is used, so that pytest starts as fast as without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fovea.testing.backbone import check_backbone as check_backbone
    from fovea.testing.context_builder import check_context_builder as check_context_builder
    from fovea.testing.data_set import check_data_set as check_data_set
    from fovea.testing.gaze_policy import check_gaze_policy as check_gaze_policy
    from fovea.testing.logger import check_logger as check_logger
    from fovea.testing.patch_extractor import check_patch_extractor as check_patch_extractor
    from fovea.testing.ssl_objective import check_ssl_objective as check_ssl_objective
    from fovea.testing.task_head import check_task_head as check_task_head

__all__ = [
    "check_backbone",
    "check_context_builder",
    "check_data_set",
    "check_gaze_policy",
    "check_logger",
    "check_patch_extractor",
    "check_ssl_objective",
    "check_task_head",
]


def __getattr__(name: str) -> Any:
    """Import a check from the module of its kind on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'fovea.testing' has no attribute {name!r}")
    return getattr(import_module(f"fovea.testing.{name.removeprefix('check_')}"), name)


def __dir__() -> list[str]:
    return __all__
