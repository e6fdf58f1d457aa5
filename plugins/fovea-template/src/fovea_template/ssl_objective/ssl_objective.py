"""Two sequences of glimpses of an image are to be found alike, among those of all images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fovea import collective
from fovea.draws import draw
from fovea.interfaces import Backbone, ContextBuilder, GazePolicy, Loss, Scene, SSLObjective
from fovea_template.ssl_objective.config import TemplateConfig


class TemplateObjective(SSLObjective):
    """Objective ``template``: contrast, after each glimpse, of two sequences at drawn gazes."""

    Config = TemplateConfig

    def __init__(
        self,
        config: TemplateConfig,
        *,
        backbone: Backbone,
        context: ContextBuilder,
        policy: GazePolicy,
    ):
        super().__init__(config, backbone=backbone, context=context, policy=policy)
        self.config = config
        self.student = backbone
        self.head = nn.Linear(backbone.width, config.bottleneck)
        self.policy = policy.requires_grad_(False)
        self.context = context
        self.finest_zoom = max(context.finest_zoom, policy.finest_zoom)

    def forward(self, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        """Compute the loss of a batch of B images; nothing here follows a schedule."""
        first, second = (self._follow(scene, generator) for _ in range(2))  # [S, B, D] each
        pairs = zip(self.head(first), self.head(second), strict=True)
        found = [contrast(one, other, self.config.temperature) for one, other in pairs]
        loss = torch.stack([loss for loss, _ in found]).mean()
        metrics = {"found": found[-1][1].detach()}  # share of images; by chance 1 / B
        return Loss(loss, metrics, {"glimpse": first[-1].detach()})

    def update(self, progress: float) -> None:
        """Do nothing: there is no teacher."""

    def trained_backbone(self) -> Backbone:
        """Return the student."""
        return self.student

    def _follow(self, scene: Scene, generator: torch.Generator) -> Tensor:
        """See a sequence: state token 0 after each of S glimpses, [S, B, D]."""
        policy, state = self.policy.begin(scene), self.student.initial_state(len(scene))
        tokens = []
        for _ in range(self.config.glimpses):
            with torch.no_grad():
                gaze = draw(policy(state), generator)
            policy.observe(gaze)
            windows = self.context.windows(gaze, scene.sizes, generator)
            seen = self.student.look(scene, windows, state)
            tokens.append(seen[:, 0])
            state = seen.detach()  # no gradient through time
        return torch.stack(tokens)


def contrast(one: Tensor, other: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Find each image's partner among those of all processes: [B, E] twice -> loss, share found."""
    queries = F.normalize(collective.gathered(one), dim=1)
    keys = F.normalize(collective.gathered(other), dim=1)
    likeness = queries @ keys.T / temperature  # [images, images]
    own = torch.arange(len(queries), device=queries.device)
    loss = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
    return collective.everyones(loss), (likeness.argmax(1) == own).float().mean()
