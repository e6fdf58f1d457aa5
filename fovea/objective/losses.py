"""The mathematics of the objective: small pure functions in float32, over all processes."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fovea import collective
from fovea.precision import full_precision

_LOGITS = 2**26
"""Logits of the student that are held at a time: 256 MiB in float32. Our choice.

The backward pass holds five tensors of that size, 1.3 GB: little on any card that trains a ViT.
"""


@torch.no_grad()
@full_precision()
def sinkhorn(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Share samples out evenly: logits [R, prototypes] -> probabilities [R, prototypes].

    Alternately scales ``exp(logits / temperature)`` so that all prototypes, then all samples, have
    the same total; samples are those of all processes. It does so with logarithms: the plain form
    overflows at everyday logits, and subtracting each sample's maximum first, a popular cure,
    changes the result.
    """
    log_q = logits.float() / temperature
    for _ in range(iterations):
        log_q = log_q - _log_total(log_q)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.exp()


def _log_total(log_q: Tensor) -> Tensor:
    """Add up the samples of all processes: logarithms [R, prototypes] -> [1, prototypes]."""
    if collective.world() == 1:
        return log_q.logsumexp(dim=0, keepdim=True)
    highest = collective.largest(log_q.amax(0, keepdim=True))
    return highest + collective.total((log_q - highest).exp().sum(0, keepdim=True)).log()


def cross_entropy(
    outputs: Tensor, prototypes: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Match students' outputs [V, B, E] and prototypes [K, E] with targets [T, B, K].

    Each of the V outputs is compared with each of the T targets. The cross-entropy is linear in
    the targets, so they are averaged first and each output is compared once. Where there are many
    prototypes, logits are made for some views at a time, and again in the backward pass.

    Returns:
        the mean cross-entropy of each output [V], and the mean prediction [K], detached.
    """
    average = targets.mean(0)
    views = max(1, _LOGITS // average.numel())
    if views >= len(outputs):
        losses, predictions = _match(outputs, prototypes, average, temperature)
        return losses, predictions / len(outputs)
    parts = [
        checkpoint(_match, part, prototypes, average, temperature, use_reentrant=False)
        for part in outputs.split(views)
    ]
    prediction = torch.stack([summed for _, summed in parts]).sum(0) / len(outputs)
    return torch.cat([losses for losses, _ in parts]), prediction


def _match(
    outputs: Tensor, prototypes: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Compare outputs [V, B, E] with targets [B, K] -> losses [V], summed mean predictions [K]."""
    logits = F.linear(outputs, prototypes)
    with full_precision():
        log_p = F.log_softmax(logits.float() / temperature, dim=-1)
        losses = -(targets * log_p).sum(-1).mean(-1)
        return losses, log_p.detach().exp().mean(1).sum(0)


@full_precision()
def koleo(features: Tensor) -> Tensor:
    """Spread features [B, D]: minus the mean log distance to the nearest other, on the sphere.

    Neighbours are sought among the images of all processes, each of which gets the same value.
    """
    features = F.normalize(collective.gathered(features.float()), dim=-1, eps=1e-8)
    with torch.no_grad():
        similarity = features @ features.T
        similarity.fill_diagonal_(-2)
        nearest = similarity.argmax(1)
    distance = F.pairwise_distance(features, features[nearest], p=2, eps=1e-8)
    return collective.everyones(-(distance + 1e-8).log().mean())


def entropy(probabilities: Tensor) -> Tensor:
    """Measure in nats: probabilities [..., P] -> [...]."""
    nats: Tensor = torch.special.entr(probabilities).sum(-1)
    return nats
