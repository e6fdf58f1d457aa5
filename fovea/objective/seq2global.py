"""The sequential-to-global objective: glimpse by glimpse, the student learns the teacher's view."""

import copy

import torch
from torch import Tensor

from fovea.interfaces import Backbone, ContextBuilder, GazePolicy, Loss, Scene, SSLObjective, draw
from fovea.objective.augment import check_channels
from fovea.objective.config import Seq2GlobalConfig
from fovea.objective.head import ProjectionHead
from fovea.objective.losses import cross_entropy, entropy, koleo, sinkhorn
from fovea.objective.views import View, ViewDrawer


class Seq2Global(SSLObjective):
    """Objective ``dino_seq2global``. Paper, section 3.1 and appendix C.

    The teacher, a moving average of the student, sees a global view and the last of S glimpses;
    the student sees another global view, local views, and every one of S other glimpses. Each
    output of the student is matched with each of the teacher by cross-entropy.
    """

    Config = Seq2GlobalConfig

    def __init__(
        self,
        config: Seq2GlobalConfig,
        *,
        backbone: Backbone,
        context: ContextBuilder,
        policy: GazePolicy,
    ):
        super().__init__(config, backbone=backbone, context=context, policy=policy)
        check_channels(config.augment, len(backbone.mean))
        self.config = config
        self.student = backbone
        self.head = ProjectionHead(config.head, backbone.width)
        self.teacher = copy.deepcopy(backbone).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.policy = policy.requires_grad_(False)
        self.views = ViewDrawer(config, context, self._gazes)
        self.finest_zoom = self.views.finest_zoom

    def forward(self, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        """Compute the loss of a batch of B images."""
        config = self.config
        targets = self._targets(scene, progress, generator)  # [2, B, prototypes]
        features = self._student_features(scene, generator)  # [1 + V + S, B, D]
        frozen = progress < config.frozen_prototypes
        logits = self.head(features.flatten(0, 1), frozen).unflatten(0, features.shape[:2])
        losses = cross_entropy(logits, targets, config.student_temperature)  # [1 + V + S]
        spread = koleo(features[0])
        metrics = self._metrics(losses, logits, targets, spread)
        watched = {"global": features[0].detach(), "glimpse": features[-1].detach()}
        return Loss(losses.mean() + config.koleo * spread, metrics, watched)

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Move the teacher towards the student."""
        weight = 1 - self.config.momentum.at(progress)
        for average, trained in ((self.teacher, self.student), (self.teacher_head, self.head)):
            torch._foreach_lerp_(list(average.parameters()), list(trained.parameters()), weight)

    def trained_backbone(self) -> Backbone:
        """Return the teacher."""
        return self.teacher

    def train(self, mode: bool = True) -> "Seq2Global":
        """Set the mode; the teacher's backbone always evaluates, so it drops no path.

        The teacher's head follows the mode: with BatchNorm it normalises over the batch, as the
        student's does.
        """
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def _targets(self, scene: Scene, progress: float, generator: torch.Generator) -> Tensor:
        """Ask the teacher: [2, B, prototypes], probabilities for the global view and the sequence.

        Sinkhorn shares out all 2 * B outputs at once, as in DINOv2.
        """
        globe = self.views.globe(scene, generator, teacher=True)
        sequence = self.views.sequence(scene, generator)
        features = torch.cat([_look(self.teacher, globe), _follow(self.teacher, sequence)[-1]])
        logits = self.teacher_head(features)  # [2 * B, prototypes]
        temperature = self.config.teacher_temperature.at(progress)
        shared = sinkhorn(logits, temperature, self.config.sinkhorn_iterations)
        return shared.view(2, len(scene), -1)

    def _student_features(self, scene: Scene, generator: torch.Generator) -> Tensor:
        """Ask the student: state token 0 of each view, [1 + V + S, B, D]."""
        globe = _look(self.student, self.views.globe(scene, generator, teacher=False))
        steps = _follow(self.student, self.views.sequence(scene, generator))
        outputs = [globe[None], torch.stack(steps)]
        if self.config.locals:
            crops = _look(self.student, self.views.locals(scene, generator))  # [B * V, D]
            outputs.insert(1, crops.unflatten(0, (len(scene), -1)).transpose(0, 1))
        return torch.cat(outputs)

    def _gazes(self, batch: int, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            return draw(self.policy(self.student.initial_state(batch)), generator)

    def _metrics(
        self, losses: Tensor, logits: Tensor, targets: Tensor, spread: Tensor
    ) -> dict[str, Tensor]:
        """What to log: all in nats, detached."""
        S = self.config.glimpses
        mean_prediction = logits.detach().float().div(self.config.student_temperature)
        mean_prediction = mean_prediction.softmax(-1).mean((0, 1))
        metrics = {
            "cross_entropy": losses.mean(),
            "cross_entropy_global": losses[0],
            "cross_entropy_first_glimpse": losses[-S],
            "cross_entropy_last_glimpse": losses[-1],
            "koleo": spread,
            "teacher_entropy": entropy(targets).mean(),
            "prototype_entropy": entropy(mean_prediction),
            "log_prototypes": torch.tensor(float(targets.shape[-1])).log(),
        }
        return {name: value.detach() for name, value in metrics.items()}


def _look(backbone: Backbone, view: View) -> Tensor:
    """See a view from the learned first state -> state token 0 [R, D]."""
    first = backbone.initial_state(len(view.patches))
    token: Tensor = backbone(view.patches, view.windows, first)[:, 0]
    return token


def _follow(backbone: Backbone, sequence: list[View]) -> list[Tensor]:
    """See a sequence -> state token 0 [B, D] after each glimpse; no gradient runs through time."""
    state = backbone.initial_state(len(sequence[0].patches))
    tokens = []
    for view in sequence:
        state = backbone(view.patches, view.windows, state)
        tokens.append(state[:, 0])
        state = state.detach()
    return tokens
