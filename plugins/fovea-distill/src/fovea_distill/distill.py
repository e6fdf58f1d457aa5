"""The objective: after each look, the state must tell what a frozen teacher sees of the image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fovea import collective, geometry
from fovea.draws import uniform
from fovea.gazes import gazes_ahead
from fovea.interfaces import Backbone, ContextBuilder, GazePolicy, Loss, Scene, SSLObjective
from fovea.objective.views import View
from fovea.precision import full_precision
from fovea_distill.config import DistillConfig
from fovea_distill.head import Head
from fovea_distill.maps import cells, picture, standardise
from fovea_distill.teacher import Teacher


class Distill(SSLObjective):
    """Objective ``distill``: the dense features of a frozen teacher, learned by glimpses.

    The teacher sees a view of each image once, and gives a map of features. The student sees the
    same view as a ViT would, and S glimpses; after each look a light head, asked for places of the
    map, tells their features from the state.

    The teacher is no submodule: it is not trained and not in checkpoints, which a large one would
    make many times larger. A checkpoint has its digest instead: with other weights than those that
    it began with, a run does not go on.
    """

    Config = DistillConfig
    teacher_digest: Tensor

    def __init__(
        self,
        config: DistillConfig,
        *,
        backbone: Backbone,
        context: ContextBuilder,
        policy: GazePolicy,
    ):
        super().__init__(config, backbone=backbone, context=context, policy=policy)
        self.config = config
        self.context = context
        self.student = backbone
        self.teacher = Teacher(config.teacher, config.weights)
        self.head = Head(config.head, backbone.width, self.teacher.width)
        self.policy = policy.requires_grad_(False)
        view = config.view
        zoom = geometry.crop_zoom(view.grid, view.scale[0])
        self.finest_zoom = max(context.finest_zoom, zoom, policy.finest_zoom)
        self.register_buffer("teacher_digest", self.teacher.digest())
        self.register_load_state_dict_post_hook(_check_digest)  # type: ignore[no-untyped-call]

    def forward(self, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        """Compute the mean squared error of the teacher's standardised features for B images."""
        view, *glimpses = self._views(scene, generator)
        windows, truth = self._ask(scene, view, generator)  # [B, Q, 3], [B, Q, features]
        first = self.student.initial_state(len(scene))
        states = [self.student(view.patches, view.windows, first), *self._follow(glimpses, first)]
        looks = len(states)
        told = self.head(torch.cat(states), windows.repeat(looks, 1, 1)).unflatten(0, (looks, -1))
        errors, likeness = _compare(told, truth)  # [1 + S] each
        metrics = {
            "error_view": errors[0],
            "error_first_glimpse": errors[1],
            "error_last_glimpse": errors[-1],
            "error_of_mean": truth.square().mean(),  # of a head that tells the mean and no more
            "cosine_last_glimpse": likeness[-1],
        }
        images = collective.total(torch.full((), float(len(scene)), device=errors.device))
        share = len(scene) * collective.world() / images  # 1, unless images of a batch are bad
        return Loss(
            errors.mean() * share,
            {name: (one * share).detach() for name, one in metrics.items()},
            {"view": states[0][:, 0].detach(), "glimpse": states[-1][:, 0].detach()},
        )

    def update(self, progress: float) -> None:
        """Do nothing: the teacher stays as it is."""

    def trained_backbone(self) -> Backbone:
        """Return the student."""
        return self.student

    def _views(self, scene: Scene, generator: torch.Generator) -> list[View]:
        """Read the teacher's view and S glimpses of each image: S + 1 views with R = B."""
        crop = self.config.view
        view = geometry.draw_crops(scene.sizes, crop.grid, crop.scale, 1, generator)[:, 0]
        state = self.student.initial_state(len(scene))
        gazes = gazes_ahead(self.policy, scene, state, self.config.glimpses, generator)
        windows = [view, *(self.context.windows(one, scene.sizes, generator) for one in gazes)]
        patches = scene.read(torch.cat(windows, 1)).split([one.shape[1] for one in windows], 1)
        return [View(*one) for one in zip(patches, windows, strict=True)]

    def _ask(self, scene: Scene, view: View, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw Q places of the teacher's map: windows [B, Q, 3], features [B, Q, features]."""
        features = self.teacher.features(picture(view.patches))  # [B, features, h, h]
        windows = cells(view.windows, features.shape[-1], scene.sizes)  # [B, h*h, 3]
        truth = standardise(features.flatten(2).mT)  # [B, h*h, features]
        order = uniform((len(scene), windows.shape[1]), generator).argsort(1).to(windows.device)
        places = order[:, : self.config.queries]
        rows = torch.arange(len(scene), device=order.device)[:, None]
        return windows[rows, places], truth[rows, places]

    def _follow(self, glimpses: list[View], state: Tensor) -> list[Tensor]:
        """See a sequence -> state [B, K, D] after each glimpse; no gradient runs through time."""
        states = []
        for view in glimpses:
            states.append(self.student(view.patches, view.windows, state))
            state = states[-1].detach()
        return states


@full_precision()
def _compare(told: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Compare [L, B, Q, features] with [B, Q, features]: squared error, and cosine, [L] each."""
    told = told.float()
    errors = (told - truth).square().mean((1, 2, 3))
    return errors, F.cosine_similarity(told.detach(), truth[None], dim=-1).mean((1, 2))


def _check_digest(module: nn.Module, keys: object) -> None:
    """Refuse, after weights were loaded, those that were learned from another teacher."""
    assert isinstance(module, Distill)
    if not torch.equal(module.teacher_digest.cpu(), module.teacher.digest()):
        raise ValueError(
            f"objective.teacher: the weights of {module.teacher.name} are not those that this run "
            "began with"
        )
