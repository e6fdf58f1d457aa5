"""Laws of the saliency policy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fovea_saliency.saliency import survey
from torch import Tensor

import fovea
from fovea.draws import draw
from fovea.engine.run import train
from fovea.images import Array
from fovea.interfaces import GazePolicy, Scene
from fovea.recipe import read_recipe
from fovea.trained import load_trained

Spot = tuple[float, float, int]  # x and y in 0..1, brightness


def policy(**settings: object) -> GazePolicy:
    built: GazePolicy = fovea.create(
        "gaze_policy", "saliency", width=8, num_state_tokens=2, **settings
    )
    return built


def image(height: int, width: int, *spots: Spot) -> Array:
    """Draw bright disks on black."""
    y, x = np.mgrid[:height, :width]
    canvas = np.zeros((height, width), np.uint8)
    for across, down, brightness in spots:
        near = np.hypot(x + 0.5 - across * width, y + 0.5 - down * height)
        canvas[near < 0.08 * min(height, width)] = brightness
    return canvas[..., None]


def scene(*images: Array) -> Scene:
    made: Scene = fovea.create("patch_extractor", "integral", patch_size=8).prepare(list(images))
    return made


def state(rows: int) -> Tensor:
    return torch.zeros(rows, 2, 8)


def gazes(one: GazePolicy, seen: Scene, count: int, traces: int = 1) -> Tensor:
    """Look at the best place again and again -> [B * traces, count, 2]."""
    sequence, found = one.begin(seen), []
    for _ in range(count):
        found.append(sequence.best(state(len(seen) * traces)))
        sequence.observe(found[-1])
    return torch.stack(found, 1)


@pytest.mark.parametrize("settings", [{}, {"grid": 1, "scales": (0.2,), "recovery": 0.0}])
def test_contract(contract: Callable[..., None], settings: dict[str, object]) -> None:
    contract("gaze_policy", "saliency", **settings)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (60, 180), (200, 50), (7, 9), (1000, 900)])
@pytest.mark.parametrize(("x", "y"), [(0.25, 0.75), (0.9, 0.4), (0.5, 0.1)])
def test_a_bright_blob_is_found(height: int, width: int, x: float, y: float) -> None:
    seen = scene(image(height, width, (x, y, 255)))
    (gaze,) = gazes(policy(), seen, 1)[:, 0]
    cell = max(height, width) / 16
    away = (gaze - torch.tensor([x, y])) * torch.tensor([width, height])
    assert away.abs().max() <= max(cell, 1)


def test_samples_crowd_where_the_blob_is() -> None:
    seen = scene(image(64, 64, (0.3, 0.7, 255)))
    distribution = policy(sharpness=6.0).begin(seen)(state(1).expand(500, -1, -1))
    gaze = draw(distribution, torch.Generator().manual_seed(0))
    away = (gaze - torch.tensor([0.3, 0.7])).norm(dim=1)
    assert away.median() < 0.15


def test_two_blobs_are_visited_in_turn_the_brighter_first() -> None:
    seen = scene(image(64, 64, (0.2, 0.25, 160), (0.75, 0.8, 255)))
    found = gazes(policy(), seen, 4)[0]
    bright, dim = torch.tensor([0.75, 0.8]), torch.tensor([0.2, 0.25])
    for gaze, place in zip(found, (bright, dim, bright, dim), strict=True):
        assert (gaze - place).norm() < 0.15


def test_without_recovery_a_place_is_never_looked_at_again() -> None:
    spots = ((0.2, 0.2, 255), (0.8, 0.2, 220), (0.5, 0.8, 180))
    found = gazes(policy(recovery=0.0, inhibition=0.05), scene(image(64, 64, *spots)), 20)[0]
    assert len(found.unique(dim=0)) == 20


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flipped_image_has_its_gazes_flipped(axis: int) -> None:
    spots = ((0.2, 0.3, 150), (0.7, 0.6, 255), (0.4, 0.85, 200))
    for size in ((64, 64), (48, 96)):
        one = image(*size, *spots)
        found = gazes(policy(), scene(one), 3)
        flipped = gazes(policy(), scene(np.ascontiguousarray(np.flip(one, axis))), 3)
        flipped[..., 1 - axis] = 1 - flipped[..., 1 - axis]
        torch.testing.assert_close(flipped, found)


def test_a_uniform_image_is_looked_at_evenly() -> None:
    distribution = policy().begin(scene(np.full((40, 40, 1), 90, np.uint8)))(state(2000)[:1])
    gaze = torch.stack(
        [draw(distribution, torch.Generator().manual_seed(i))[0] for i in range(800)]
    )
    torch.testing.assert_close(gaze.mean(0), torch.full((2,), 0.5), rtol=0, atol=0.04)
    torch.testing.assert_close(gaze.std(0), torch.full((2,), 12**-0.5), rtol=0, atol=0.03)


def test_no_gaze_is_meant_for_outside_a_narrow_image() -> None:
    rng = np.random.default_rng(0)
    seen = scene(*(rng.integers(0, 256, size, np.uint8)[..., None] for size in ((3, 90), (80, 9))))
    found = gazes(policy(), seen, 30)
    assert ((found >= 0) & (found <= 1)).all()


def test_traces_of_an_image_remember_their_own_gazes_only() -> None:
    seen = scene(image(64, 64, (0.2, 0.2, 255)), image(64, 64, (0.7, 0.6, 255), (0.2, 0.8, 200)))
    together = gazes(policy(), seen, 3, traces=2)
    assert torch.equal(together[0::2], together[1::2])
    torch.testing.assert_close(together[0::2], gazes(policy(), seen, 3))
    sequence = policy().begin(seen)
    sequence.observe(torch.tensor([[0.2, 0.2], [0.9, 0.9], [0.7, 0.6], [0.9, 0.1]]))
    best = sequence.best(state(4))
    assert (best[1] - torch.tensor([0.2, 0.2])).norm() < 0.1 < (best[0] - best[1]).norm()
    assert (best[3] - torch.tensor([0.7, 0.6])).norm() < 0.1
    assert (best[2] - torch.tensor([0.2, 0.8])).norm() < 0.1


def test_the_survey_of_a_square_image_is_the_image_averaged() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    picture, inside, places = survey(scene(pixels), grid=2)
    averaged = torch.from_numpy(pixels).float().div(255).view(16, 4, 16, 4, 3).mean((1, 3))
    torch.testing.assert_close(picture[0], averaged.permute(2, 0, 1), rtol=0, atol=1e-5)
    assert (inside == 1).all()
    expected = torch.tensor([[0.5 / 16, 0.5 / 16], [1.5 / 16, 0.5 / 16], [15.5 / 16, 15.5 / 16]])
    torch.testing.assert_close(places[0, [0, 1, -1]], expected)


@pytest.mark.parametrize(("height", "width"), [(40, 80), (90, 30), (64, 64)])
def test_the_surveyed_cells_have_the_area_of_the_image(height: int, width: int) -> None:
    _, inside, places = survey(scene(image(height, width)), grid=2)
    share = inside.sum() / inside.numel()
    assert float(share) == pytest.approx(height * width / max(height, width) ** 2, rel=1e-5)
    assert ((places >= 0) & (places <= 1)).all()


def test_a_gaze_without_a_scene_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ask what its begin\(scene\) returns"):
        policy()(state(1))


def test_it_trains_and_looks_by_the_same_yaml(tmp_path: Path) -> None:
    short = ["pretrain.steps=2", "pretrain.batch_size=4", "policy=null", "threads=1"]
    probe = ["probe.epochs=null", "probe.steps=2", "probe.batch_size=4"]
    changed = [f"run_dir={tmp_path}", "model.policy=saliency"]
    train(read_recipe("quickstart", [*changed, *short, *probe]))
    model = load_trained(tmp_path).model
    seen = model([image(56, 56, (0.3, 0.3, 255))], 4, torch.Generator().manual_seed(0))
    assert seen.gazes.shape == (1, 4, 2)
    assert not list(model.policy.state_dict())
