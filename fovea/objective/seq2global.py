"""The sequential-to-global objective: glimpse by glimpse, the student learns the teacher's view."""

import copy

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fovea import collective
from fovea.config import AUTO, number
from fovea.gazes import gazes_ahead
from fovea.interfaces import Backbone, ContextBuilder, GazePolicy, Loss, Scene, SSLObjective
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
        self.momentum = number(config.momentum, "momentum")
        self.teacher_temperature = number(config.teacher_temperature, "teacher_temperature")
        self.pieces = 1 if config.accumulate == AUTO else config.accumulate
        self.student = backbone
        self.head = ProjectionHead(config.head, backbone.width)
        self.teacher = copy.deepcopy(backbone).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.policy = policy.requires_grad_(False)
        self.views = ViewDrawer(config, context, self._gazes)
        self.finest_zoom = max(self.views.finest_zoom, policy.finest_zoom)

    def forward(self, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        """Compute the loss of a batch of B images."""
        config = self.config
        targets = self._targets(scene, progress, generator)  # [2, B, prototypes]
        features = self._student_features(scene, generator)  # [1 + V + S, B, D]
        outputs = self.head.project(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        prototypes = self.head.prototypes.weight
        if progress < config.frozen_prototypes:
            prototypes = prototypes.detach()
        losses, prediction = cross_entropy(outputs, prototypes, targets, config.student_temperature)
        images = collective.total(losses.new_full((), len(scene)))
        share = len(scene) * collective.world() / images  # 1, unless images of a batch are bad
        losses = losses * share
        spread = koleo(features[0])
        metrics = self._metrics(losses, prediction * share, targets, spread)
        watched = {"global": features[0].detach(), "glimpse": features[-1].detach()}
        return Loss(losses.mean() + config.koleo * spread, metrics, watched)

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Move the teacher towards the student."""
        weight = 1 - self.momentum.at(progress)
        for average, trained in ((self.teacher, self.student), (self.teacher_head, self.head)):
            torch._foreach_lerp_(collective.local(average), collective.local(trained), weight)

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
        temperature = self.teacher_temperature.at(progress)
        shared = sinkhorn(logits, temperature, self.config.sinkhorn_iterations)
        return shared.view(2, len(scene), -1)

    def _student_features(self, scene: Scene, generator: torch.Generator) -> Tensor:
        """Ask the student: state token 0 of each view, [1 + V + S, B, D]."""
        student, pieces = self.student, self.pieces
        globe = _look(student, self.views.globe(scene, generator, teacher=False), pieces)
        steps = _follow(student, self.views.sequence(scene, generator), pieces)
        outputs = [globe[None], torch.stack(steps)]
        if self.config.locals:
            crops = _look(student, self.views.locals(scene, generator), pieces)  # [B * V, D]
            outputs.insert(1, crops.unflatten(0, (len(scene), -1)).transpose(0, 1))
        return torch.cat(outputs)

    def _gazes(self, scene: Scene, generator: torch.Generator) -> list[Tensor]:
        """Draw the S gazes of a sequence."""
        state = self.student.initial_state(len(scene))
        return gazes_ahead(self.policy, scene, state, self.config.glimpses, generator)

    def _metrics(
        self, losses: Tensor, prediction: Tensor, targets: Tensor, spread: Tensor
    ) -> dict[str, Tensor]:
        """What to log: all in nats, detached; each is to be averaged over the processes."""
        S = self.config.glimpses
        everyones = collective.total(prediction) / collective.world()
        metrics = {
            "cross_entropy": losses.mean(),
            "cross_entropy_global": losses[0],
            "cross_entropy_first_glimpse": losses[-S],
            "cross_entropy_last_glimpse": losses[-1],
            "koleo": spread,
            "teacher_entropy": entropy(targets).mean(),
            "prototype_entropy": entropy(everyones),
            "log_prototypes": targets.new_full((), targets.shape[-1]).log(),
        }
        return {name: value.detach() for name, value in metrics.items()}


def _look(backbone: Backbone, view: View, pieces: int = 1) -> Tensor:
    """See a view from the learned first state -> state token 0 [R, D]."""
    return _see(backbone, view, backbone.initial_state(len(view.patches)), pieces)[:, 0]


def _follow(backbone: Backbone, sequence: list[View], pieces: int = 1) -> list[Tensor]:
    """See a sequence -> state token 0 [B, D] after each glimpse; no gradient runs through time."""
    state = backbone.initial_state(len(sequence[0].patches))
    tokens = []
    for view in sequence:
        state = _see(backbone, view, state, pieces)
        tokens.append(state[:, 0])
        state = state.detach()
    return tokens


def _see(backbone: Backbone, view: View, state: Tensor, pieces: int) -> Tensor:
    """See a view; in pieces, activations are kept for one piece at a time and computed again."""
    if pieces == 1:
        seen: Tensor = backbone(view.patches, view.windows, state)
        return seen
    rows = zip(*(one.chunk(pieces) for one in (view.patches, view.windows, state)), strict=True)
    return torch.cat([checkpoint(backbone, *row, use_reentrant=False) for row in rows])
