"""Laws of the contexts: which windows one glimpse consists of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fovea
from fovea import geometry
from fovea.context.constant import Constant
from fovea.interfaces import ContextBuilder
from fovea.testing.second_device import second_device, waits

GAZE = torch.tensor([[0.1, 0.9], [0.5, 0.5], [1.2, -0.3]])
SIZES = torch.tensor([[224, 224], [40, 90], [1, 300]])


def context(name: str, **settings: object) -> ContextBuilder:
    built: ContextBuilder = fovea.create("context_builder", name, **settings)
    return built


def lay(builder: ContextBuilder, gaze: Tensor = GAZE, seed: int | None = None) -> Tensor:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return builder.windows(gaze, SIZES, generator)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", ["foveal", "multizoom", "grid"])
def test_every_context_lays_num_windows_in_float64(name: str, seed: int | None) -> None:
    builder = context(name)
    windows = lay(builder, seed=seed)
    assert windows.shape == (3, builder.num_windows, 3)
    assert windows.dtype == torch.float64
    assert windows.isfinite().all()


@pytest.mark.parametrize("name", ["foveal", "multizoom"])
def test_a_moved_gaze_moves_all_windows_alike(name: str) -> None:
    moved = torch.tensor([0.25, -0.125])
    difference = lay(context(name), GAZE + moved) - lay(context(name))
    torch.testing.assert_close(
        difference[..., :2], moved.double().expand(3, difference.shape[1], 2)
    )
    torch.testing.assert_close(difference[..., 2], torch.zeros_like(difference[..., 2]))


def test_foveal_is_multizoom_followed_by_a_grid_around_the_gaze() -> None:
    windows = lay(context("foveal", zooms=(0.0, 2.0), grid=3, grid_zoom_eval=4.0))
    assert torch.equal(windows[:, :2], lay(context("multizoom", zooms=(0.0, 2.0))))
    torch.testing.assert_close(windows[:, 2:, :2].mean(1), GAZE.double())


@settings(deadline=None)
@given(st.lists(st.floats(-3, 6), min_size=1), st.integers(1, 5), st.none() | st.integers(0, 99))
def test_foveal_is_bit_for_bit_what_multizoom_and_grid_lay(
    zooms: list[float], n: int, seed: int | None
) -> None:
    found = lay(context("foveal", zooms=zooms, grid=n), seed=seed)
    periphery = geometry.multizoom(GAZE, torch.tensor(zooms, dtype=torch.float64))
    fovea_ = geometry.grid(GAZE, found[:, -1, 2], n, SIZES)
    assert torch.equal(found, torch.cat([periphery, fovea_], dim=1))


@pytest.mark.parametrize("name", ["foveal", "multizoom", "grid"])
def test_a_device_is_sent_no_number_once_it_has_the_constants(name: str) -> None:
    with second_device() as device:
        builder, gaze, sizes = context(name), GAZE.to(device), SIZES.to(device)
        builder.windows(gaze, sizes, None)
        with waits() as found:
            builder.windows(gaze, sizes, None)
            builder.windows(gaze, sizes, torch.Generator(device))
    assert not found


def test_a_constant_that_inference_sent_to_a_device_serves_training() -> None:
    constant = Constant(torch.arange(3.0))
    meta = torch.device("meta")
    with torch.inference_mode():
        sent = constant.on(meta)
    assert sent.device == meta
    assert not sent.is_inference()
    assert constant.on(meta) is sent
    assert constant.on(torch.device("cpu")) is constant.values


def test_foveal_zoom_is_fixed_without_a_generator() -> None:
    builder = context("foveal", zooms=(0.0,), grid=2, grid_zoom=(3.0, 4.5), grid_zoom_eval=2.5)
    assert (lay(builder)[:, 1:, 2] == 2.5).all()


def test_foveal_zoom_is_drawn_per_image_within_its_range_with_a_generator() -> None:
    builder = context("foveal", zooms=(0.0,), grid=2, grid_zoom=(3.0, 4.5))
    zooms = torch.cat([lay(builder, seed=seed)[:, 1:, 2] for seed in range(60)])
    assert (zooms == zooms[:, :1]).all()  # one zoom for all windows of an image
    assert 3.0 <= zooms.min() < 3.1
    assert 4.4 < zooms.max() <= 4.5
    assert zooms[:, 0].unique().numel() == 180
    assert torch.equal(lay(builder, seed=1), lay(builder, seed=1))


def test_grid_ignores_the_gaze() -> None:
    builder = context("grid", grid=4)
    assert torch.equal(lay(builder), lay(builder, GAZE + 0.3, seed=1))


zooms = st.floats(-3, 6)
contexts = st.one_of(
    st.builds(lambda some: context("multizoom", zooms=some), st.lists(zooms, min_size=1)),
    st.builds(lambda n: context("grid", grid=n), st.integers(1, 9)),
    st.builds(
        lambda some, n, ends, fixed: context(
            "foveal", zooms=some, grid=n, grid_zoom=sorted(ends), grid_zoom_eval=fixed
        ),
        *(st.lists(zooms, min_size=1), st.integers(1, 4), st.tuples(zooms, zooms), zooms),
    ),
)


@settings(deadline=None)
@given(contexts, st.integers(0, 99))
def test_no_window_is_closer_than_the_finest_zoom(builder: ContextBuilder, seed: int) -> None:
    for laid in (lay(builder), lay(builder, seed=seed)):
        assert laid[..., 2].max() <= builder.finest_zoom + 1e-9


@pytest.mark.parametrize(("name", "finest"), [("foveal", 4.5), ("multizoom", 4.0), ("grid", 4.0)])
def test_the_finest_zoom_is_that_of_training_and_evaluation(name: str, finest: float) -> None:
    assert context(name).finest_zoom == finest


def test_a_context_that_does_not_know_its_finest_zoom_may_come_as_close_as_it_likes() -> None:
    assert ContextBuilder.finest_zoom == float("inf")
