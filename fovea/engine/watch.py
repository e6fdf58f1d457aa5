"""Watches a run for collapse: every image getting the same feature or the same target."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_GRACE_STEPS = 50  # a network at its start looks collapsed
_ADVICE = {
    "uniform": (
        "the loss sticks at ln(prototypes): every image gets the same target. Try fewer "
        "prototypes, head.batch_norm=true, a lower teacher temperature or learning rate"
    ),
    "one prototype": (
        "nearly all predictions fall on few prototypes. Check that Sinkhorn sees enough images per "
        "batch, raise the teacher temperature"
    ),
    "constant features": (
        "all images have nearly the same feature. Raise objective.koleo, lower the learning rate, "
        "leave out LayerScale"
    ),
    "low rank": (
        "features vary in a few directions only. Raise objective.koleo, train longer, or use less "
        "weight decay"
    ),
}


class CollapseWatch:
    """Measures spread and entropies at each logged step, and names a collapse once."""

    def __init__(self) -> None:
        self.warned: set[str] = set()

    def measure(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Measure features [B, D]: rank (RankMe) and spread (1 on a sphere filled evenly).

        Each is float32 [], where the features are: whoever fetches them may do so at once.
        """
        measures = {}
        for name, value in features.items():
            measures[f"rank_{name}"] = rankme(value)
            measures[f"spread_{name}"] = spread(value)
        return measures

    def warnings(self, step: int, metrics: Mapping[str, float], width: int) -> list[str]:
        """Say what looks collapsed, each kind once a run."""
        if step < _GRACE_STEPS:
            return []
        new = [kind for kind in _collapsed(metrics, width) if kind not in self.warned]
        self.warned.update(new)
        return [f"collapse ({kind}) at step {step}: {_ADVICE[kind]}" for kind in new]


def _collapsed(metrics: Mapping[str, float], width: int) -> list[str]:
    """Name the indicators that say collapse; thresholds are our choice."""
    kinds = []
    largest = metrics.get("log_prototypes", math.nan)
    if largest - metrics.get("cross_entropy", math.nan) < 0.02:
        kinds.append("uniform")
    if metrics.get("prototype_entropy", math.nan) < 0.5 * largest:
        kinds.append("one prototype")
    if any(value < 0.1 for name, value in metrics.items() if name.startswith("spread_")):
        kinds.append("constant features")
    if any(value < 0.05 * width for name, value in metrics.items() if name.startswith("rank_")):
        kinds.append("low rank")
    return kinds


def rankme(features: Tensor) -> Tensor:
    """Effective rank of features [B, D]: exp of the entropy of their normalised singular values."""
    singular = torch.linalg.svdvals(features.float())
    share = singular / singular.sum().clamp(min=1e-12)
    rank: Tensor = torch.special.entr(share).sum().exp()
    return rank


def spread(features: Tensor) -> Tensor:
    """Standard deviation of normalised features [B, D], times sqrt(D): near 1 is healthy."""
    directions = F.normalize(features.float(), dim=-1)
    evenness: Tensor = directions.std(0).mean() * features.shape[1] ** 0.5
    return evenness
