"""Our step: the trainer's own, on images from files."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from fovea.bench.names import TABLES, VIEWS
from fovea.bench.train_split import M, Split
from fovea.data.loader import Batch, Order, train_batches
from fovea.engine.log import RunLog
from fovea.engine.memory import fitted
from fovea.engine.run import load_data, pick_device
from fovea.engine.trainer import Trainer
from fovea.engine.transfer import Feed, Sent
from fovea.images import Array, Unopened
from fovea.interfaces import Loss, Scene
from fovea.model import assemble
from fovea.objective.seq2global import Seq2Global
from fovea.objective.views import View, ViewDrawer
from fovea.presets import resolve
from fovea.recipe import Recipe
from fovea.stages.pretrain import Pretrain
from fovea.trained import Trained


class OurTraining:
    """Our step, and its batches.

    Args:
        recipe: with a pretrain stage, see ``fovea.bench.train_recipe``.
    """

    def __init__(self, recipe: Recipe):
        recipe = resolve(recipe, len(load_data(recipe, "train"))).recipe
        assert recipe.pretrain is not None
        self.recipe = recipe
        self.batch_size = recipe.pretrain.batch_size
        self.device = pick_device(recipe.device)
        torch.manual_seed(recipe.seed)
        trained = Trained(assemble(recipe.model))
        config = fitted(recipe, recipe.pretrain, trained, load_data(recipe, "train"), self.device)
        torch.manual_seed(recipe.seed)
        self.stage = Pretrain(config, trained).to(self.device)
        trained.to(self.device)
        self.stage.train()
        assert isinstance(self.stage.objective, Seq2Global)
        self.objective = self.stage.objective
        self.extractor = trained.model.extractor
        self.data = load_data(recipe, "train", self.stage.finest_zoom)
        folder = Path(recipe.run_dir) / "pretrain"
        self.trainer = Trainer(self.stage, config, recipe, self.extractor, self.data, folder)

    def batches(self) -> Feed[Any]:
        """Read images as training does, in the recipe's worker processes."""
        self.feed = self.trainer.feed(self._order())
        return self.feed

    def batch(self) -> Batch:
        """Read the first batch, here."""
        return next(train_batches(self.data, self._order(), 0))

    def step(self, index: int, batch: Batch) -> None:
        """Make one optimiser step, from decoded images on."""
        self._step(index, self.trainer.transfer.send(batch), lambda: None)

    def step_of_feed(self, index: int, sent: Sent[Any]) -> None:
        """Make one optimiser step of ``batches``, which fetches the next as training does."""
        self._step(index, sent, self.feed.fetch)

    def loss(self, batch: Batch) -> Loss:
        """Compute the loss of a batch."""
        scene = self.extractor.prepare(batch.images, self.device)
        loss: Loss = self.stage(scene, batch.labels, 0.0, torch.Generator(self.device))
        return loss

    def draw(self, images: Sequence[Array | Unopened]) -> None:
        """Make all views of some images."""
        scene = self.extractor.prepare(images, self.device)
        generator = torch.Generator(self.device).manual_seed(0)
        for is_teachers in (True, False):
            self.objective.views.globe(scene, generator, teacher=is_teachers)
            self.objective.views.sequence(scene, generator)
        self.objective.views.locals(scene, generator)

    def draw_beforehand(self, batch: Batch, views: "Ready | None" = None) -> None:
        """Have views of a batch ready, these or fresh ones, so that steps draw and read none."""
        scene = self.extractor.prepare(batch.images, self.device)
        if views is None:
            self.objective.views = Ready(self.objective.views, scene)
        else:
            self.objective.views = views.to(self.device)
        setattr(self.extractor, "prepare", lambda images, device: scene)  # noqa: B010

    def watch(self, split: Split[M]) -> None:
        """Have the time of each part of the step added up."""
        split.wrap(self.extractor, "prepare", TABLES)
        for method in ("globe", "locals", "sequence"):
            split.wrap(self.objective.views, method, VIEWS)
        split.watch(self.stage, self.objective.teacher, self.objective.student)

    def _step(self, index: int, sent: Sent[Any], meanwhile: Callable[[], None]) -> None:
        log = RunLog(self.trainer.folder, "pretrain", 0, 1, self.batch_size, is_main=False)
        with log:
            loss, _ = self.trainer._step(index, sent, log, meanwhile)
        assert loss is not None, "a step that is not taken is no measurement"

    def _order(self) -> Order:
        steps = self.trainer.length.steps
        return Order(len(self.data), self.batch_size, self.recipe.seed, 0, steps)


class Ready(ViewDrawer):
    """Views that were drawn once."""

    def __init__(self, drawer: ViewDrawer, scene: Scene):
        super().__init__(drawer.config, drawer.context, drawer.gazes)
        generator = torch.Generator(scene.sizes.device).manual_seed(0)
        self.drawn = drawer.globe(scene, generator, teacher=True)
        self.drawn_locals = drawer.locals(scene, generator)
        self.drawn_sequence = drawer.sequence(scene, generator)

    def to(self, device: torch.device) -> "Ready":
        """Have the same views on a device."""
        moved = copy.copy(self)
        moved.drawn, moved.drawn_locals = (
            _moved(view, device) for view in (self.drawn, self.drawn_locals)
        )
        moved.drawn_sequence = [_moved(view, device) for view in self.drawn_sequence]
        return moved

    def globe(self, scene: Scene, generator: torch.Generator, teacher: bool) -> View:
        """Return the global views."""
        return self.drawn

    def locals(self, scene: Scene, generator: torch.Generator) -> View:
        """Return the local views."""
        return self.drawn_locals

    def sequence(self, scene: Scene, generator: torch.Generator) -> list[View]:
        """Return the sequence."""
        return self.drawn_sequence


def _moved(view: View, device: torch.device) -> View:
    return View(*(getattr(view, field.name).to(device) for field in fields(view)))
