"""Nearest neighbours: how good the features are, with nothing trained on top."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.evaluate.accuracy import scenes
from fovea.interfaces import DataSet
from fovea.stages.probe import random_states
from fovea.trained import Trained

_TEMPERATURE = 0.07  # DINO's


@torch.no_grad()
def features(
    trained: Trained, data: DataSet, glimpses: int, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Embed a split: state token 0 after S glimpses [n, D], in ViT mode [n, D]; labels [n]."""
    generator = torch.Generator(trained.model.device).manual_seed(0)
    seen, whole, labels = [], [], []
    for scene, batch in scenes(trained, data, batch_size):
        seen.append(random_states(trained.model, scene, glimpses, generator)[-1, :, 0])
        whole.append(trained.model.vit_state(scene)[:, 0])
        labels.append(batch.labels)
    return torch.cat(seen), torch.cat(whole), torch.cat(labels).to(trained.model.device)


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, neighbours: int
) -> float:
    """Vote among the k nearest by cosine, weighted by exp(similarity / 0.07) as DINO does.

    Args:
        bank: features [m, D] of known labels.
        bank_labels: [m].
        queries: features [n, D] to classify.
        labels: [n], the truth.
        neighbours: k.
    """
    similarity = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T  # [n, m]
    nearest, index = similarity.topk(min(neighbours, len(bank)), dim=1)
    weights = torch.exp((nearest - 1) / _TEMPERATURE)
    votes = torch.zeros(len(queries), int(bank_labels.max()) + 1, device=queries.device)
    votes.scatter_add_(1, bank_labels[index], weights)
    return float((votes.argmax(1) == labels).float().mean())
