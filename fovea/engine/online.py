"""Measurements beside training, every n epochs: what the model has learned so far.

They are made on a copy of the model and draw from generators of their own: training ends in the
same weights, to the bit, with them and without.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from fovea import collective
from fovea.engine.log import RunLog
from fovea.engine.out_of_memory import explained
from fovea.evaluate.embed import Embedded, Some, embed
from fovea.evaluate.gazes import sampled
from fovea.evaluate.knn import knn_accuracy
from fovea.evaluate.ridge import ridge_accuracy
from fovea.interfaces import DataSet
from fovea.model import FovealModel
from fovea.recipe import OnlineConfig
from fovea.stages.stage import Stage
from fovea.trained import Trained

if TYPE_CHECKING:
    from fovea.viz.glimpses import Look

MEASURED = ("pretrain", "policy")
"""Stages that are measured; a probe logs its accuracy anyway."""
PICTURES = "pictures"
_ALIKE = 5  # neighbours in a picture


class Online:
    """Measures a stage every n epochs: numbers and pictures in pretraining, pictures of a policy.

    The first process measures; the others wait where they next meet.

    Args:
        config: what to measure.
        folder: of the stage; pictures go to ``pictures/`` in it.
        stage: as it is trained.
        current: returns the model as it is at this moment; every process calls it.
        train: what the model is trained on.
        val: what is classified; None where there is no such split, or no labels.
        per_epoch: steps of an epoch.
        workers: processes that read images.
    """

    def __init__(
        self,
        config: OnlineConfig,
        folder: Path,
        stage: Stage,
        current: Callable[[], Trained],
        train: DataSet,
        val: DataSet | None,
        per_epoch: int,
        workers: int = 0,
    ):
        self.config, self.folder, self.stage, self.current = config, folder, stage, current
        self.train, self.val, self.workers = train, val, workers
        self.period = max(1, round(config.every_epochs * per_epoch))

    def is_due(self, step: int, last: bool) -> bool:
        """Tell whether to measure after a step."""
        return last or (step + 1) % self.period == 0

    def measure(self, step: int, log: RunLog) -> float | None:
        """Measure after a step, and log it.

        Returns:
            The accuracy of kNN after the last glimpse, by which the best checkpoint is chosen; None
            where nothing is classified, and in other processes than the first.
        """
        smaller = [f"an online.batch_size below {self.config.batch_size}", "fewer online.images"]
        with log.aside(), explained("online", smaller, next(self.stage.parameters()).device):
            trained = self._copy()
            if collective.rank() > 0:
                return None
            cuda = [trained.model.device] if trained.model.device.type == "cuda" else []
            with torch.random.fork_rng(cuda), torch.no_grad():
                return self._measure(trained, step, log)

    def _copy(self) -> Trained:
        """Copy the model, in evaluation mode; the stage's own modes are left as they are."""
        modes = [(module, module.training) for module in self.stage.modules()]
        trained = self.current()
        for module, mode in modes:
            module.training = mode
        old = trained.model
        parts = (old.config, old.extractor, old.context, old.vit_context)
        model = FovealModel(*parts, copy.deepcopy(old.backbone), copy.deepcopy(old.policy))
        return replace(trained, model=model.eval())

    def _measure(self, trained: Trained, step: int, log: RunLog) -> float | None:
        if self.folder.name == "policy":
            self._draw_gazes(trained, step, log)
            return None
        self._draw_seen(trained, step, log)
        return None if self.val is None else self._classify(trained.model, self.val, step, log)

    def _classify(self, model: FovealModel, val: DataSet, step: int, log: RunLog) -> float:
        """Classify images of the val split by those of the train split."""
        config = self.config
        bank, asked = Some(self.train, config.images), Some(val, config.images)
        sizes = (config.glimpses, config.batch_size, self.workers)
        known, queries = embed(model, bank, *sizes), embed(model, asked, *sizes)
        values = _accuracies(known, queries, config.neighbours)
        log.record(step, values)
        log.say(_summary(step, values, config.glimpses))
        if config.pictures:
            from fovea.viz.neighbours import draw_neighbours, labelled  # matplotlib is slow

            reader = model.extractor
            rows = [
                (labelled(asked, place, reader), [labelled(bank, one, reader) for one in alike])
                for place, alike in _alike(known, queries, config.pictures)
            ]
            file = self._file(f"step-{step + 1:08d}-neighbours.png")
            draw_neighbours(rows, file)
            log.picture(step, "neighbours", file)
        return values["online/knn_glimpses"]

    def _draw_seen(self, trained: Trained, step: int, log: RunLog) -> None:
        """Draw, once, what glimpses show of images: pretraining does not change that."""
        file = self._file("seen.png")
        if self.config.pictures and not file.exists():
            from fovea.viz.glimpses import draw_seen  # matplotlib is slow

            draw_seen(self._looks(replace(trained, heads=None), self.train), file)
            log.picture(step, "seen", file)

    def _draw_gazes(self, trained: Trained, step: int, log: RunLog) -> None:
        """Draw where the policy looks, and what the probe then says."""
        if self.config.pictures:
            from fovea.viz.glimpses import draw_paths  # matplotlib is slow

            file = self._file(f"step-{step + 1:08d}-gaze_paths.png")
            draw_paths(self._looks(trained, self.train if self.val is None else self.val), file)
            log.picture(step, "gaze_paths", file)

    def _looks(self, trained: Trained, data: DataSet) -> list["Look"]:
        from fovea.viz.glimpses import look_at_some

        gaze = sampled(trained.model.policy)
        some = Some(data, self.config.images)
        return look_at_some(trained, some, gaze, self.config.glimpses, self.config.pictures)

    def _file(self, name: str) -> Path:
        folder = self.folder / PICTURES
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name


def _accuracies(known: Embedded, queries: Embedded, neighbours: int) -> dict[str, float]:
    """Measure by kNN and by linear probes in closed form, shares of right answers."""
    labels, truth = known.labels, queries.labels

    def knn(bank: torch.Tensor, asked: torch.Tensor) -> float:
        return knn_accuracy(bank, labels, asked, truth, neighbours)

    def probe(bank: torch.Tensor, asked: torch.Tensor) -> float:
        return ridge_accuracy(bank, labels, asked, truth)

    values = {
        "online/knn_glimpses": knn(known.seen[-1], queries.seen[-1]),
        "online/knn_vit": knn(known.whole, queries.whole),
        "online/probe_vit": probe(known.whole, queries.whole),
    }
    for number, pair in enumerate(zip(known.seen, queries.seen, strict=True), 1):
        values[f"online/probe_{number}"] = probe(*pair)
    return values


def _alike(known: Embedded, queries: Embedded, count: int) -> list[tuple[int, list[int]]]:
    """Find the places of the first queries, each with those of the images nearest by cosine."""
    directions = F.normalize(known.seen[-1], dim=1)
    similarity = F.normalize(queries.seen[-1][:count], dim=1) @ directions.T  # [count, m]
    nearest = similarity.topk(min(_ALIKE, len(directions)), dim=1).indices.cpu()
    return list(zip(queries.places[:count].tolist(), known.places[nearest].tolist(), strict=True))


def _summary(step: int, values: Mapping[str, float], glimpses: int) -> str:
    percent = {name.removeprefix("online/"): f"{value:.1%}" for name, value in values.items()}
    return (
        f"online   step {step + 1}: kNN {percent['knn_glimpses']} after {glimpses} glimpses, "
        f"{percent['knn_vit']} in ViT mode; linear probe {percent['probe_1']} after 1, "
        f"{percent[f'probe_{glimpses}']} after {glimpses}, {percent['probe_vit']} in ViT mode"
    )
