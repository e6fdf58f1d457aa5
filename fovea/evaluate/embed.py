"""Features of images after each glimpse and in ViT mode, for what is measured beside training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fovea.data.loader import all_batches
from fovea.interfaces import DataSet, Sample
from fovea.model import FovealModel
from fovea.stages.probe import random_states


@dataclass(frozen=True)
class Embedded:
    """Features of the n images of a data set that are labelled and can be read.

    Attributes:
        seen: [S, n, D], state token 0 after each glimpse.
        whole: [n, D], state token 0 in ViT mode.
        labels: [n].
        places: [n], where each stands in the data set.
    """

    seen: Tensor
    whole: Tensor
    labels: Tensor
    places: Tensor


class Some(DataSet):
    """So many images of a data set, drawn once and for all; all of them where it has no more."""

    def __init__(self, data: DataSet, count: int):
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randperm(len(data), generator=generator)[:count]
        self.data, self.classes = data, data.classes
        self.indices: list[int] = drawn.sort().values.tolist()

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Ask the data set."""
        return self.data.name(self.indices[index])

    def sample(self, index: int, epoch: int) -> Sample:
        """Ask the data set."""
        return self.data.sample(self.indices[index], epoch)


@torch.no_grad()
def embed(
    model: FovealModel, data: DataSet, glimpses: int, batch_size: int, workers: int = 0
) -> Embedded:
    """Look at each image S times where the model's policy says, by draws of its own; and at once.

    Raises:
        ValueError: none of the images can be read and has a label.
    """
    generator = torch.Generator(model.device).manual_seed(0)
    seen, whole, labels, places = [], [], [], []
    for number, batch in enumerate(all_batches(data, batch_size, workers)):
        if batch.images:
            scene = model.extractor.prepare(batch.images, model.device)
            seen.append(random_states(model, scene, glimpses, generator)[:, :, 0].float())
            whole.append(model.vit_state(scene)[:, 0].float())
            labels.append(batch.labels)
            places.append(batch.places + number * batch_size)
    known = torch.cat(labels) >= 0 if labels else torch.zeros(0, dtype=torch.bool)
    if not known.any():
        raise ValueError(f"none of {len(data)} images can be read and has a label")
    there = known.to(model.device)
    return Embedded(
        torch.cat(seen, 1)[:, there],
        torch.cat(whole)[there],
        torch.cat(labels)[known].to(model.device),
        torch.cat(places)[known],
    )
