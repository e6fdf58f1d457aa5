"""The steps that are compared, by name: ours, ours with one thing changed, and DINO's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fovea.bench.names import DINO, OURS, OURS_LARGE, OURS_READY
from fovea.bench.timing import Task
from fovea.bench.train_changes import Change, changes
from fovea.bench.train_dino import DinoTraining
from fovea.bench.train_ours import OurTraining
from fovea.bench.train_recipe import LARGE_BATCH, training_recipe
from fovea.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """What is trained, and with what.

    Attributes:
        device: cpu or cuda.
        photos: the folder of the images.
        batch: images a step.
        workers: processes that read data.
        threads: of torch, on a CPU.
        quick: a smaller network.
    """

    device: str
    photos: Path
    batch: int
    workers: int
    threads: int
    quick: bool

    def recipe(self, changes: Sequence[str] = ()) -> Recipe:
        """Return the recipe, with ``key=value`` changes."""
        return training_recipe(
            self.device, self.photos, self.batch, self.workers, self.quick, changes
        )


def step_task(name: str, plan: Plan) -> Task:
    """Build what makes a step from decoded images, or from views that are ready."""
    if name == DINO:
        dino = DinoTraining(plan.recipe(), torch.device(plan.device))
        views = dino.ready()
        return lambda _: dino.step(views)
    if name == OURS_LARGE:
        plan = replace(plan, batch=LARGE_BATCH)
    change = changes(plan.device).get(name, Change())
    ours = OurTraining(plan.recipe(change.settings))
    change.alter(ours)
    batch = ours.batch()
    if name == OURS_READY:
        ours.draw_beforehand(batch)

    def step(index: int) -> None:
        with change.within():
            ours.step(index, batch)

    return step


def image_flops(plan: Plan, names: Sequence[str] = (OURS, DINO)) -> dict[str, int]:
    """Count the FLOPs of our step and of DINO's in matrix products, an image's share.

    They are those of the recipe that is timed, with a batch of two on the CPU. A multiply-add
    counts as two. Nothing that is computed again counts twice, and nothing that draws, reads or
    augments views counts.
    """
    two = replace(plan, batch=2, workers=0).recipe(("device=cpu", "precision=float32"))
    losses = {OURS: _our_loss, DINO: _dino_loss}
    return {name: _flops(losses[name](two)) // 2 for name in names}


def _our_loss(recipe: Recipe) -> Callable[[], Tensor]:
    ours = OurTraining(recipe)
    batch = ours.batch()
    ours.draw_beforehand(batch)
    return lambda: ours.loss(batch).total


def _dino_loss(recipe: Recipe) -> Callable[[], Tensor]:
    dino = DinoTraining(recipe, torch.device("cpu"))
    views = dino.ready()
    return lambda: cast(Tensor, dino.networks(views))


def _flops(loss: Callable[[], Tensor]) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss().backward()
    return int(counter.get_total_flops())
