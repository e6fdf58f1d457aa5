"""Laws of the log-polar context."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fovea_polar.polar import lay_out
from torch import Tensor

import fovea
from fovea import geometry
from fovea.config import ConfigError
from fovea.engine.run import train
from fovea.interfaces import ContextBuilder
from fovea.recipe import read_recipe
from fovea.trained import load_trained

GAZE = torch.tensor([[0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)
SIZES = torch.tensor([[200, 200], [100, 300]])


def polar(**settings: object) -> ContextBuilder:
    built: ContextBuilder = fovea.create("context_builder", "polar", **settings)
    return built


def pixels(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Tell offsets from the gaze [B, N, 2] and sides [B, N], in pixels."""
    offsets = (windows[..., :2] - GAZE[:, None]) * SIZES.flip(1)[:, None]
    return offsets, geometry.window_sides(windows[..., 2], SIZES)


@pytest.mark.parametrize("settings", [{}, {"rings": 1, "windows": 3}, {"rings": 3, "growth": 3.0}])
def test_contract(contract: Callable[..., None], settings: dict[str, object]) -> None:
    contract("context_builder", "polar", **settings)


@pytest.mark.parametrize(("rings", "windows"), [(1, 3), (2, 6), (5, 6), (3, 11)])
@pytest.mark.parametrize("seed", [None, 0])
def test_the_number_of_windows_is_one_and_the_rings(
    rings: int, windows: int, seed: int | None
) -> None:
    context = polar(rings=rings, windows=windows)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    laid = context.windows(GAZE, SIZES, generator)
    assert laid.shape == (2, 1 + rings * windows, 3)
    assert context.num_windows == 1 + rings * windows


@pytest.mark.parametrize("windows", [3, 6, 9])
def test_radius_and_side_grow_geometrically_in_pixels(windows: int) -> None:
    laid = polar(rings=4, windows=windows, growth=1.5).windows(GAZE, SIZES, None)
    offsets, sides = pixels(laid)
    radius = offsets[:, 1:].norm(dim=2).unflatten(1, (4, windows))
    side = sides[:, 1:].unflatten(1, (4, windows))
    for values in (radius, side):
        torch.testing.assert_close(values, values[..., :1].expand_as(values))  # alike in a ring
        torch.testing.assert_close(values[:, 1:], 1.5 * values[:, :-1])
    assert torch.equal(laid[:, 0, :2], GAZE)
    torch.testing.assert_close(sides[:, 0], side[:, 0, 0])


def test_windows_of_a_ring_touch_and_six_leave_no_room_in_the_middle() -> None:
    offsets, sides = pixels(polar(rings=2, windows=6).windows(GAZE, SIZES, None))
    for ring in range(2):
        some = slice(1 + 6 * ring, 7 + 6 * ring)
        apart = (offsets[:, some] - offsets[:, some].roll(1, 1)).norm(dim=2)
        torch.testing.assert_close(apart, sides[:, some])
    torch.testing.assert_close(offsets[:, 1].norm(dim=1), sides[:, 0])


@pytest.mark.parametrize("windows", [3, 4, 7])
def test_turning_by_the_angle_between_neighbours_changes_nothing(windows: int) -> None:
    centres, zooms = lay_out(3, windows, 2.0)
    angle = torch.tensor(2 * math.pi / windows, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    turned = centres @ turn.T
    apart = torch.cdist(turned, centres)
    nearest = apart.argmin(1)
    assert apart.amin(1).max() < 1e-9
    assert len(nearest.unique()) == len(centres)
    assert torch.equal(zooms[nearest], zooms)


def test_every_other_ring_is_turned_by_half() -> None:
    centres, _ = lay_out(2, 4, 2.0)
    angles = torch.atan2(centres[1:, 1], centres[1:, 0])
    torch.testing.assert_close(angles[0], torch.tensor(0.0, dtype=torch.float64))
    torch.testing.assert_close(angles[4], torch.tensor(math.pi / 4, dtype=torch.float64))


def test_zoom_is_drawn_per_image_in_training_and_fixed_otherwise() -> None:
    context = polar(rings=2, zoom=(2.0, 3.0), zoom_eval=2.5)
    assert (context.windows(GAZE, SIZES, None)[:, :7, 2] == 2.5).all()
    gaze, sizes = GAZE.repeat(50, 1), SIZES.repeat(50, 1)
    drawn = context.windows(gaze, sizes, torch.Generator().manual_seed(0))
    inner = drawn[:, 0, 2]
    assert 2.0 <= inner.min() < 2.1
    assert 2.9 < inner.max() <= 3.0
    assert len(inner.unique()) == 100
    fixed = context.windows(gaze, sizes, None)
    scale = torch.exp2(fixed[:, :1, 2] - drawn[:, :1, 2])[..., None]  # all of it grows alike
    expected = gaze[:, None] + scale * (fixed[..., :2] - gaze[:, None])
    torch.testing.assert_close(drawn[..., :2], expected)
    assert context.finest_zoom == 3.0


def test_zooms_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="the lowest comes first"):
        polar(zoom=(3.0, 2.0))


def test_it_trains_by_the_same_yaml_with_one_line_changed(tmp_path: Path) -> None:
    short = ["pretrain.steps=3", "pretrain.batch_size=4", "probe=null", "policy=null", "threads=1"]
    train(read_recipe("quickstart", [f"run_dir={tmp_path}", "model.context=polar", *short]))
    assert load_trained(tmp_path).model.context.num_windows == 31
