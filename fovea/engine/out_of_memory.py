"""Out of memory in one sentence: what ran out, and which settings to change."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from fovea import collective
from fovea.config import AUTO, to_tree
from fovea.engine.stopping import TrainingError
from fovea.recipe import PretrainConfig, Recipe, StageConfig


@contextmanager
def explained(what: str, changes: Sequence[str], device: torch.device) -> Iterator[None]:
    """Say in one sentence that a GPU's memory ran out within this block.

    Args:
        what: needed it, e.g. a stage.
        changes: to try, in that order.
        device: whose memory it is.

    Raises:
        TrainingError: in place of ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{what}: out of memory, with {card(device)}; try, in this order: {', '.join(changes)}"
        ) from error


def remedies(recipe: Recipe, name: str, config: StageConfig) -> list[str]:
    """List what to change where a stage does not fit, first what leaves the result as it is."""
    changes = _kept_less(config) if isinstance(config, PretrainConfig) else []
    if recipe.precision == "float32":
        changes.append("precision=bfloat16")
    if config.batch_size > 2 * collective.world():
        changes.append(f"a {name}.batch_size below {config.batch_size}")
    return [*changes, "more processes"]


def _kept_less(config: PretrainConfig) -> list[str]:
    """Ask for less to be kept than the settings do; auto keeps as little as it must already."""
    changes, blocks = [], config.checkpoint_blocks
    if blocks is not True and blocks != AUTO:
        changes.append("pretrain.checkpoint_blocks=true")
    pieces = to_tree(config.objective).get("accumulate", AUTO)
    if pieces != AUTO:
        changes.append(f"pretrain.objective.accumulate={2 * pieces}")
    return changes


def card(device: torch.device) -> str:
    """Say how much of a GPU's memory is free, and which GPU it is."""
    free, total = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    return f"{gigabytes(free)} free of {gigabytes(total)} on {name}"


def gigabytes(size: float) -> str:
    """Write bytes in GB, to three digits."""
    return f"{size / 1e9:.3g} GB"
