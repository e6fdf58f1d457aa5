"""The mathematics of the objective: small pure functions, all in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.precision import full_precision


@torch.no_grad()
@full_precision()
def sinkhorn(logits: Tensor, temperature: float, iterations: int) -> Tensor:
    """Share samples out evenly: logits [R, prototypes] -> probabilities [R, prototypes].

    Alternately scales ``exp(logits / temperature)`` so that all prototypes, then all samples, have
    the same total. It does so with logarithms: the plain form overflows at everyday logits, and
    subtracting each sample's maximum first, a popular cure, changes the result.
    """
    log_q = logits.float() / temperature
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.exp()


@full_precision()
def cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Match students: logits [V, B, prototypes], targets [T, B, prototypes] -> mean CE [V].

    Each of the V outputs is compared with each of the T targets. The cross-entropy is linear in
    the targets, so they are averaged first and each output is compared once.
    """
    log_p = F.log_softmax(logits.float() / temperature, dim=-1)
    return -(targets.mean(0) * log_p).sum(-1).mean(-1)


@full_precision()
def koleo(features: Tensor) -> Tensor:
    """Spread features [B, D]: minus the mean log distance to the nearest other, on the sphere."""
    features = F.normalize(features.float(), dim=-1, eps=1e-8)
    with torch.no_grad():
        similarity = features @ features.T
        similarity.fill_diagonal_(-2)
        nearest = similarity.argmax(1)
    distance = F.pairwise_distance(features, features[nearest], p=2, eps=1e-8)
    return -(distance + 1e-8).log().mean()


def entropy(probabilities: Tensor) -> Tensor:
    """Measure in nats: probabilities [..., P] -> [...]."""
    nats: Tensor = torch.special.entr(probabilities).sum(-1)
    return nats
