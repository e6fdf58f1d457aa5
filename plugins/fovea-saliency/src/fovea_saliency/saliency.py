"""The policy that looks where the image stands out, and then elsewhere."""

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from fovea import geometry
from fovea.interfaces import GazePolicy, Scene
from fovea_saliency.config import SaliencyConfig
from fovea_saliency.conspicuity import saliency

_FLOOR = 1e-4  # of the saliency: a gaze may fall anywhere, however dull


class Saliency(GazePolicy):
    """Policy ``saliency``: a coarse look at the scene says where to look; nothing is trained.

    It does not look at the state. Only what ``begin`` returns can be asked for a gaze.
    """

    Config = SaliencyConfig

    def __init__(self, config: SaliencyConfig, *, width: int, num_state_tokens: int):
        super().__init__()
        self.config = config
        self.finest_zoom = math.log2(config.grid)

    def begin(self, scene: Scene) -> GazePolicy:
        """Read grid**2 windows of each image, and find what stands out there."""
        config = self.config
        with torch.no_grad():
            picture, inside, places = survey(scene, config.grid)
            found = saliency(picture, inside, config.scales, config.surround)
        return SalientGaze(config, found, inside, places, scene.sizes)

    def forward(self, state: Tensor) -> Distribution:
        """Refuse: without a scene nothing stands out."""
        raise ValueError("policy saliency looks at a scene: ask what its begin(scene) returns")


class SalientGaze(GazePolicy):
    """The policy for one sequence: the saliency of B images, and how much of it is left.

    Args:
        config: settings.
        found: saliency [B, M, M] in 0..1.
        inside: share of each cell that lies in the image [B, M, M].
        places: [B, M * M, 2], where the cells are, (x, y) in 0..1.
        sizes: of the images [B, 2].
    """

    def __init__(
        self, config: SaliencyConfig, found: Tensor, inside: Tensor, places: Tensor, sizes: Tensor
    ):
        super().__init__()
        self.config, self.places = config, places
        self.found = torch.where(inside > 0, found + _FLOOR, 0.0).flatten(1)  # [B, M * M]
        self.inhibited = torch.zeros_like(self.found)  # 0..1; [R, M * M] once gazes are known
        width_height = sizes.flip(1).to(places.dtype)
        self.stretch = (width_height / width_height.amin(1, keepdim=True))[:, None]  # [B, 1, 2]
        longest = self.stretch.amax(2, keepdim=True)
        self.spread = longest / self.stretch / found.shape[-1] / 2  # half a cell, [B, 1, 2]

    def forward(self, state: Tensor) -> Distribution:
        """Ignore the state [R, K, D]; return Gaussians about the cells, batch [R], event [2]."""
        logits = self.config.sharpness * self._left(len(state)).log()
        places = _for_rows(self.places, len(state))
        spread = _for_rows(self.spread, len(state)).expand_as(places)
        cells = Independent(Normal(places, spread), 1)
        return MixtureSameFamily(Categorical(logits=logits), cells)

    def best(self, state: Tensor) -> Tensor:
        """Return the most salient place that is left [R, 2]."""
        first = self._left(len(state)).argmax(1)[:, None, None]
        return _for_rows(self.places, len(state)).take_along_dim(first, 1)[:, 0]

    def observe(self, gaze: Tensor) -> None:
        """Leave out what is near a gaze [R, 2] from now on: inhibition of return."""
        rows = len(gaze)
        offset = gaze.to(self.places.dtype)[:, None] - _for_rows(self.places, rows)
        away = (offset * _for_rows(self.stretch, rows)).square().sum(2)  # [R, M * M]
        near = torch.exp(-away / (2 * self.config.inhibition**2))
        before = _for_rows(self.inhibited, rows) * (1 - self.config.recovery)
        self.inhibited = torch.maximum(before, near * (1 - _FLOOR))

    def _left(self, rows: int) -> Tensor:
        return _for_rows(self.found, rows) * (1 - _for_rows(self.inhibited, rows))


def survey(scene: Scene, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read the square about each image, as long as its longer side, by grid x grid windows.

    Returns:
        The picture [B, C, M, M] with M = grid * P; the share of each cell that lies in the image
        [B, M, M]; the place of each cell [B, M * M, 2], row by row, (x, y) within the image.
    """
    patches = scene.read(_square(grid, scene.sizes)).unflatten(1, (grid, grid))
    picture = patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)  # [B, C, M, M]
    M = picture.shape[-1]
    cells = _square(M, scene.sizes)
    inside = geometry.coverage(cells, scene.sizes).unflatten(1, (M, M))
    edges = geometry.window_edges(cells, scene.sizes).unflatten(2, (2, 2))  # low and high (x, y)
    places = (edges / scene.sizes.flip(1)[:, None, None]).clamp(0, 1).mean(2)
    return picture, inside.float(), places.float()


def _square(n: int, sizes: Tensor) -> Tensor:
    """Cover the square about each image by n x n windows: sizes [B, 2] -> [B, n * n, 3]."""
    middle = torch.full((len(sizes), 2), 0.5, device=sizes.device)
    zoom = torch.log2(n * sizes.amin(1).double() / sizes.amax(1).double())
    return geometry.grid(middle, zoom, n, sizes)


def _for_rows(values: Tensor, rows: int) -> Tensor:
    """Repeat what belongs to B images for R = B * G rows of the state, image by image."""
    return values.repeat_interleave(rows // len(values), 0)
