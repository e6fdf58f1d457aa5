"""Our step with one thing done otherwise, to see what it is worth."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.bench.names import COMPILED
from fovea.bench.train_ours import OurTraining
from fovea.bench.train_packed import in_one_pass
from fovea.objective import losses, seq2global
from fovea.precision import full_precision


def _nothing(training: OurTraining) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True)
class Change:
    """One thing that is done otherwise.

    Attributes:
        settings: ``key=value`` of the recipe.
        alter: changes what was built.
        within: surrounds each step.
    """

    settings: tuple[str, ...] = ()
    alter: Callable[[OurTraining], None] = _nothing
    within: Callable[[], AbstractContextManager[None]] = nullcontext


def changes(device: str) -> dict[str, Change]:
    """List what is changed, one thing at a time, by name."""
    other = {"cpu": "bfloat16", "cuda": "float32"}[device]
    by_setting = (
        f"precision={other}",
        COMPILED,
        "model.extractor.reader=torch",
        "pretrain.checkpoint_blocks=true",
        "pretrain.objective.accumulate=4",
    )
    return {
        "local views one by one": Change(alter=_locals_one_by_one),
        "views of all lengths in one pass": Change(alter=in_one_pass),
        "cross-entropy of each pair": Change(within=_pair_by_pair),
        "AdamW parameter by parameter": Change(alter=_parameter_by_parameter),
        **{setting: Change((setting,)) for setting in by_setting},
    }


def _locals_one_by_one(training: OurTraining) -> None:
    """Show the student no more than one view of each image at a time."""
    student, rows = training.objective.student, training.batch_size
    see = student.forward

    def forward(*inputs: Tensor) -> Tensor:
        pieces = zip(*(one.split(rows) for one in inputs), strict=True)
        return torch.cat([see(*piece) for piece in pieces])

    setattr(student, "forward", forward)  # noqa: B010  # mypy forbids the plain assignment


def _parameter_by_parameter(training: OurTraining) -> None:
    optimizer = training.trainer.optimizer
    for group in optimizer.param_groups:
        group["fused"] = group["foreach"] = False
    # only the fused one can be told on the device to change nothing
    setattr(optimizer, "step_unless", lambda bad: optimizer.step())  # noqa: B010


@contextmanager
def _pair_by_pair() -> Iterator[None]:
    setattr(seq2global, "cross_entropy", each_pair)  # noqa: B010
    try:
        yield
    finally:
        setattr(seq2global, "cross_entropy", losses.cross_entropy)  # noqa: B010


def each_pair(
    outputs: Tensor, prototypes: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compute what ``fovea.objective.losses.cross_entropy`` does, pair by pair, as DINO's code."""
    logits = F.linear(outputs, prototypes)  # [V, B, K]
    with full_precision():
        nats = [
            [
                -(target * F.log_softmax(one.float() / temperature, dim=-1)).sum(-1).mean()
                for target in targets
            ]
            for one in logits
        ]
        prediction = (logits.detach().float() / temperature).softmax(-1).mean((0, 1))
        return torch.stack([torch.stack(row).mean() for row in nats]), prediction
