"""Stage 2: train task heads on the frozen backbone. Paper, section 5.1."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fovea.draws import draw
from fovea.interfaces import Loss, Scene
from fovea.model import FovealModel
from fovea.recipe import ProbeConfig
from fovea.stages.stage import Stage
from fovea.trained import GLIMPSE, VIT, Trained


class Probe(Stage):
    """Trains one head on the states of random glimpses and one on those of the ViT mode.

    The glimpse head learns from every step of a sequence alike (our choice). Two heads, since one
    for both costs the ViT mode some 5 points.
    """

    needs_labels = True

    def __init__(self, config: ProbeConfig, trained: Trained, classes: tuple[str, ...]):
        super().__init__()
        self.config = config
        self.frozen = trained.with_heads(config.head, classes)
        assert self.frozen.heads is not None
        self.heads = self.frozen.heads
        self.frozen.model.requires_grad_(False).eval()
        self.finest_zoom = self.frozen.model.finest_zoom

    def forward(
        self, scene: Scene, labels: Tensor, progress: float, generator: torch.Generator
    ) -> Loss:
        """Compute the cross-entropy of both heads."""
        model = self.frozen.model
        with torch.no_grad():
            states = random_states(model, scene, self.config.glimpses, generator)
            whole = model.vit_state(scene)
        S = len(states)
        logits = self.heads[GLIMPSE](states.flatten(0, 1))  # [S * B, classes]
        glimpse = F.cross_entropy(logits.float(), labels.repeat(S))
        vit_logits = self.heads[VIT](whole)
        vit = F.cross_entropy(vit_logits.float(), labels)
        last = logits[-len(labels) :]
        metrics = {
            "cross_entropy_glimpse": glimpse,
            "cross_entropy_vit": vit,
            "accuracy_glimpse": (last.argmax(1) == labels).float().mean(),
            "accuracy_vit": (vit_logits.argmax(1) == labels).float().mean(),
        }
        return Loss(glimpse + vit, {name: value.detach() for name, value in metrics.items()})

    def result(self) -> Trained:
        """Return the model with its heads."""
        return self.frozen


def random_states(
    model: FovealModel, scene: Scene, glimpses: int, generator: torch.Generator
) -> Tensor:
    """Look S times where the model's policy says -> the state after each glimpse [S, B, K, D]."""
    policy, state = model.policy.begin(scene), model.initial_state(len(scene))
    states = []
    for _ in range(glimpses):
        gaze = draw(policy(state), generator)
        policy.observe(gaze)
        state = model.glimpse(scene, gaze, state).detach()
        states.append(state)
    return torch.stack(states)
