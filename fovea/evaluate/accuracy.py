"""Accuracy after each glimpse, in ViT mode, and how often the gaze hits the object."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fovea.data.loader import Batch, all_batches
from fovea.evaluate.gazes import Gaze
from fovea.geometry import inside_box
from fovea.interfaces import DataSet, Scene
from fovea.trained import GLIMPSE, VIT, Trained


@dataclass(frozen=True)
class StepAccuracy:
    """Accuracy of one way to gaze.

    Attributes:
        accuracy: share of right answers after glimpse 1..S, mean over gaze seeds.
        spread: standard deviation of that over the seeds.
        hit_rate: share of gazes within the object's box at glimpse 1..S, or None where unknown.
    """

    accuracy: list[float]
    spread: list[float]
    hit_rate: list[float] | None


def scenes(trained: Trained, data: DataSet, batch_size: int) -> Iterator[tuple[Scene, Batch]]:
    """Prepare the labelled images of a whole split, batch by batch."""
    for batch in (one.labelled() for one in all_batches(data, batch_size)):
        if batch.images:
            yield trained.model.extractor.prepare(batch.images, trained.model.device), batch


@torch.no_grad()
def vit_accuracy(trained: Trained, data: DataSet, batch_size: int) -> float:
    """Classify in ViT mode."""
    assert trained.heads is not None
    right, total = 0, 0
    for scene, batch in scenes(trained, data, batch_size):
        logits = trained.heads[VIT](trained.model.vit_state(scene))
        right += int((logits.argmax(1).cpu() == batch.labels).sum())
        total += len(batch.labels)
    return right / total


def step_accuracy(
    trained: Trained, data: DataSet, gaze: Gaze, glimpses: int, seeds: int, batch_size: int
) -> StepAccuracy:
    """Classify after each of S glimpses, once for each gaze seed."""
    runs = [_one_seed(trained, data, gaze, glimpses, seed, batch_size) for seed in range(seeds)]
    accuracy = torch.stack([right for right, _ in runs])  # [seeds, S]
    hits = [hit for _, hit in runs if hit is not None]
    return StepAccuracy(
        accuracy.mean(0).tolist(),
        accuracy.std(0, unbiased=False).tolist(),
        torch.stack(hits).mean(0).tolist() if hits else None,
    )


def _one_seed(
    trained: Trained, data: DataSet, gaze: Gaze, glimpses: int, seed: int, batch_size: int
) -> tuple[Tensor, Tensor | None]:
    """Return the shares of right answers [S] and of hits [S]."""
    generator = torch.Generator(trained.model.device).manual_seed(seed)
    right, hits, total = torch.zeros(glimpses), torch.zeros(glimpses), 0
    boxes: Tensor | None = None
    for scene, batch in scenes(trained, data, batch_size):
        boxes = None if batch.boxes is None else batch.boxes.to(trained.model.device)
        answers, gazes = classify(trained, scene, boxes, gaze, glimpses, generator)
        right += (answers.cpu() == batch.labels).sum(1)
        if boxes is not None:
            hits += inside_box(gazes, boxes).sum(1).cpu()
        total += len(batch.labels)
    return right / total, hits / total if boxes is not None else None


@torch.no_grad()
def classify(
    trained: Trained,
    scene: Scene,
    boxes: Tensor | None,
    gaze: Gaze,
    glimpses: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Look S times -> answers [S, B] (class indices) and gazes [S, B, 2]."""
    assert trained.heads is not None
    choose, state = gaze(scene, boxes, generator), trained.model.initial_state(len(scene))
    answers, gazes = [], []
    for _ in range(glimpses):
        point = choose(state)
        state = trained.model.glimpse(scene, point, state)
        answers.append(trained.heads[GLIMPSE](state).argmax(1))
        gazes.append(point)
    return torch.stack(answers), torch.stack(gazes)
