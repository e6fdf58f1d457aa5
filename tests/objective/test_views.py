"""Laws of the views that the objective compares."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fovea
from fovea.interfaces import Scene
from fovea.objective.config import AugmentConfig, CropConfig, Seq2GlobalConfig
from fovea.objective.views import ViewDrawer

shares = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted).map(tuple)
crops = st.builds(CropConfig, grid=st.integers(1, 5), scale=shares)


def anywhere(scene: Scene, generator: torch.Generator) -> list[Tensor]:
    return [torch.rand(len(scene), 2, generator=generator) for _ in range(2)]


class Recorder(Scene):
    """Grey images of several shapes that remember where they were read."""

    def __init__(self) -> None:
        self.sizes = torch.tensor([[20, 30], [30, 20], [7, 7]])
        self.zooms: list[Tensor] = []

    def read(self, windows: Tensor) -> Tensor:
        self.zooms.append(windows[..., 2])
        return torch.full((*windows.shape[:2], 3, 4, 4), 0.5)


@settings(deadline=None, max_examples=40)
@given(crops, crops, st.integers(0, 2), st.floats(-1, 3), st.integers(0, 99))
def test_no_view_reads_closer_than_the_finest_zoom(
    globe: CropConfig, local: CropConfig, locals: int, zoom: float, seed: int
) -> None:
    context = fovea.create("context_builder", "multizoom", zooms=(0.0, zoom))
    config = Seq2GlobalConfig(
        **{"global_crop": globe, "local_crop": local, "locals": locals, "glimpses": 2},
        augment=AugmentConfig(blur_teacher=0, blur_student=0, blur_local=0),  # they take long
    )
    views = ViewDrawer(config, context, anywhere)
    scene, generator = Recorder(), torch.Generator().manual_seed(seed)
    views.globe(scene, generator, teacher=True)
    views.globe(scene, generator, teacher=False)
    views.sequence(scene, generator)
    if locals:
        views.locals(scene, generator)
    read = torch.cat([zooms.flatten() for zooms in scene.zooms])
    assert read.max() <= views.finest_zoom + 1e-9


def test_the_finest_zoom_is_reached_by_the_smallest_crops() -> None:
    views = ViewDrawer(
        Seq2GlobalConfig(local_crop=CropConfig(grid=8, scale=(0.0625, 0.0625))),
        fovea.create("context_builder", "grid", grid=2),
        anywhere,
    )
    scene = Recorder()
    views.locals(scene, torch.Generator().manual_seed(0))
    assert scene.zooms[0].max() == views.finest_zoom  # log2(8 / 0.25)
