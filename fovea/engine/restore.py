"""Going on from a checkpoint: it must fit in every part, or the run stops by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fovea.engine.checkpoint import misfit
from fovea.engine.distributed import load_optimizer, load_stage
from fovea.engine.stopping import TrainingError

_PARTS = ("stage", "optimizer", "guard", "threads", "warned", "best", "step")


def restore(
    stage: nn.Module, optimizer: torch.optim.Optimizer, contents: Mapping[str, Any], file: str
) -> None:
    """Load weights and the optimiser's averages from a checkpoint; never only some of them.

    Raises:
        TrainingError: it is of another model, or lacks a part.
    """
    lacking = [name for name in _PARTS if name not in contents]
    wrong = f"it lacks {', '.join(lacking)}" if lacking else None
    wrong = wrong or misfit(contents["stage"], stage.state_dict())
    wrong = wrong or _averages_misfit(stage, optimizer, contents["optimizer"])
    if wrong is None:
        try:
            load_optimizer(optimizer, contents["optimizer"])  # it checks its groups first
            load_stage(stage, contents["stage"])
        except (ValueError, LookupError) as error:
            wrong = " ".join(str(error).split())
    if wrong is not None:
        raise TrainingError(
            f"{file} is a checkpoint of another model: {wrong}; use another run_dir"
        )


def _averages_misfit(
    stage: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]
) -> str | None:
    """Compare the shapes of averages with those of the weights, which have none before a step."""
    names = {parameter: name for name, parameter in stage.named_parameters()}
    ordered = [one for group in optimizer.param_groups for one in group["params"]]
    count = sum(len(group["params"]) for group in saved["param_groups"])
    if count != len(ordered):
        return f"its optimizer has averages of {count} weights instead of {len(ordered)}"
    found: dict[str, Tensor] = {}
    wanted: dict[str, Tensor] = {}
    for index, averages in saved["state"].items():
        for key, value in averages.items():
            if value.ndim:  # not the count of steps
                label = f"{key} of {names[ordered[index]]}"
                found[label], wanted[label] = value, ordered[index]
    return misfit(found, wanted)
