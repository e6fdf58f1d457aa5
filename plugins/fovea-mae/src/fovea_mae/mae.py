"""The objective: part of a look is hidden, and the state must tell what was there."""

import torch
from torch import Tensor

from fovea import collective, geometry
from fovea.gazes import gazes_ahead
from fovea.interfaces import Backbone, ContextBuilder, GazePolicy, Loss, Scene, SSLObjective
from fovea.objective.views import View
from fovea_mae.config import MaeConfig
from fovea_mae.decoder import Decoder, mean_square
from fovea_mae.hiding import count_hidden, hide, targets


class MaskedAutoencoder(SSLObjective):
    """Objective ``mae``: masked autoencoding (He et al., 2022) of glimpses and of a global view.

    Of each look some windows are shown to the student; a light decoder, asked for the hidden ones
    by their place, tells their pixels from the state. The state is carried through a sequence and
    detached between glimpses. There is no second network: nothing but the student and the decoder
    is trained, and the student is what is handed on.
    """

    Config = MaeConfig

    def __init__(
        self, config: MaeConfig, *, backbone: Backbone, context: ContextBuilder, policy: GazePolicy
    ):
        super().__init__(config, backbone=backbone, context=context, policy=policy)
        for windows in (config.global_crop.grid**2, context.num_windows):
            count_hidden(windows, config.hidden)
        self.config = config
        self.context = context
        self.student = backbone
        outputs = len(backbone.mean) * config.pixels**2
        self.decoder = Decoder(config.decoder, backbone.width, outputs)
        self.policy = policy.requires_grad_(False)
        crop = config.global_crop
        zoom = geometry.crop_zoom(crop.grid, crop.scale[0])
        self.finest_zoom = max(context.finest_zoom, zoom, policy.finest_zoom)

    def forward(self, scene: Scene, progress: float, generator: torch.Generator) -> Loss:
        """Compute the mean squared error of hidden patches, each normalised, for B images."""
        views = self._views(scene, generator)
        looks = [hide(view, self.config.hidden, generator) for view in views]
        first = self.student.initial_state(len(scene))
        globe, *sequence = [shown for shown, _ in looks]
        states = [
            self.student(globe.patches, globe.windows, first),
            *self._follow(sequence, first),
        ]
        errors, flat = [], []  # [B, M] each
        for state, (_, hidden) in zip(states, looks, strict=True):
            truth = targets(hidden.patches, self.config.pixels)
            errors.append(mean_square(self.decoder(state, hidden.windows), truth))
            flat.append(truth.square().mean(-1))
        metrics = {
            "error_global": errors[0],
            "error_first_glimpse": errors[1],
            "error_last_glimpse": errors[-1],
            "error_of_mean": torch.cat(flat, 1),  # of telling each patch's mean and no more
        }
        images = collective.total(torch.full((), float(len(scene)), device=errors[0].device))
        share = len(scene) * collective.world() / images  # 1, unless images of a batch are bad
        return Loss(
            torch.cat(errors, 1).mean() * share,
            {name: (one.mean() * share).detach() for name, one in metrics.items()},
            {"global": states[0][:, 0].detach(), "glimpse": states[-1][:, 0].detach()},
        )

    def update(self, progress: float) -> None:
        """Do nothing: no average follows the student."""

    def trained_backbone(self) -> Backbone:
        """Return the student."""
        return self.student

    def _views(self, scene: Scene, generator: torch.Generator) -> list[View]:
        """Read a global view and S glimpses of each image: S + 1 views with R = B."""
        crop = self.config.global_crop
        globe = geometry.draw_crops(scene.sizes, crop.grid, crop.scale, 1, generator)[:, 0]
        state = self.student.initial_state(len(scene))
        gazes = gazes_ahead(self.policy, scene, state, self.config.glimpses, generator)
        windows = [globe, *(self.context.windows(one, scene.sizes, generator) for one in gazes)]
        patches = scene.read(torch.cat(windows, 1)).split([one.shape[1] for one in windows], 1)
        return [View(*one) for one in zip(patches, windows, strict=True)]

    def _follow(self, sequence: list[View], state: Tensor) -> list[Tensor]:
        """See a sequence -> state [B, K, D] after each glimpse; no gradient runs through time."""
        states = []
        for view in sequence:
            states.append(self.student(view.patches, view.windows, state))
            state = states[-1].detach()
        return states
