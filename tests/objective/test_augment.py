"""Photometric augmentation: identities, symmetries and bounds."""

from dataclasses import replace

import pytest
import torch

from fovea.objective import changes
from fovea.objective.augment import augment
from fovea.objective.config import AugmentConfig
from fovea.testing.second_device import second_device, waits

OFF = AugmentConfig(
    flip=0.0, jitter=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grayscale=0.0
)


def views(R: int = 6, N: int = 4, C: int = 3, P: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    return torch.rand(R, N, C, P, P, generator=g), torch.rand(
        R, N, 3, generator=g, dtype=torch.float64
    )


def applied(patches, windows=None, *, blur=0.0, solarize=0.0, seed=0, **settings):
    windows = views(len(patches), patches.shape[1])[1] if windows is None else windows
    config = OFF.model_copy(update=settings)
    return augment(patches, windows, config, blur, solarize, torch.Generator().manual_seed(seed))


def unchanged(R):
    one, never = torch.ones(R), torch.zeros(R, dtype=torch.bool)
    return changes.Changes(never, one, one, None, None, None)


def recoloured(patches, turn):
    R = len(patches)
    colour = changes.Colour(torch.ones(R), changes.hue_matrix(turn), torch.zeros(R).bool())
    return changes.change(patches, replace(unchanged(R), colour=colour))


@pytest.mark.parametrize("channels", [1, 3])
def test_probability_0_is_the_identity(channels):
    patches, windows = views(C=channels)
    strengths = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
    out, places = applied(patches, windows, **strengths)
    torch.testing.assert_close(out, patches, rtol=0, atol=1e-6)
    assert torch.equal(places, windows)


def test_flip_mirrors_pixels_and_places_and_twice_is_the_identity():
    patches, windows = views()
    once, places = applied(patches, windows, flip=1.0)
    assert torch.equal(once, patches.flip(-1))
    torch.testing.assert_close(places[..., 0], 1 - windows[..., 0])
    assert torch.equal(places[..., 1:], windows[..., 1:])
    again, places = applied(once, places, flip=1.0)
    assert torch.equal(again, patches)
    torch.testing.assert_close(places, windows)


def test_brightness_multiplies_each_view_by_one_factor_within_bounds():
    patches = torch.full((200, 2, 3, 4, 4), 0.5)
    out, _ = applied(patches, jitter=1.0, brightness=0.4)
    factors = out[:, 0, 0, 0, 0] / 0.5
    assert torch.equal(out, factors.view(-1, 1, 1, 1, 1).mul(0.5).expand_as(out))
    assert factors.min() >= 0.6 - 1e-6
    assert factors.max() <= 1.4 + 1e-6
    assert factors.max() - factors.min() > 0.7


def test_contrast_keeps_the_mean_and_scales_the_spread_within_bounds():
    patches = 0.4 + 0.2 * views(R=100)[0][:, :, :1].expand(-1, -1, 3, -1, -1)  # far from clipping
    out, _ = applied(patches, jitter=1.0, contrast=0.4)
    axes = (1, 2, 3, 4)
    torch.testing.assert_close(out.mean(axes), patches.mean(axes), rtol=0, atol=1e-5)
    ratio = out.std(axes) / patches.std(axes)
    assert ratio.min() >= 0.6 - 1e-4
    assert ratio.max() <= 1.4 + 1e-4
    assert ratio.max() - ratio.min() > 0.6


def test_grayscale_makes_channels_equal_and_keeps_grey():
    patches, _ = views()
    out, _ = applied(patches, grayscale=1.0)
    torch.testing.assert_close(out[:, :, 0], out[:, :, 2])
    torch.testing.assert_close(applied(out, grayscale=1.0)[0], out)


@pytest.mark.parametrize("turn", [0.0, 1.0, -1.0])
def test_hue_turned_by_none_or_a_full_circle_is_the_identity(turn):
    patches, _ = views()
    turned = recoloured(patches, torch.full((6,), turn))
    torch.testing.assert_close(turned, patches, rtol=0, atol=1e-5)


def test_hue_keeps_grey_and_a_third_of_a_circle_permutes_channels():
    grey = views(C=1)[0].expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(recoloured(grey, torch.rand(6)), grey, rtol=0, atol=1e-5)
    patches, _ = views()
    turned = recoloured(patches, torch.full((6,), 1 / 3))
    torch.testing.assert_close(turned, patches.roll(1, 2), rtol=0, atol=1e-5)


def test_blur_keeps_constant_patches_and_reduces_variance():
    constant = torch.rand(6, 4, 3, 1, 1).expand(-1, -1, -1, 8, 8)
    torch.testing.assert_close(applied(constant, blur=1.0)[0], constant)
    patches, _ = views(R=50)
    out, _ = applied(patches, blur=1.0)
    assert (out.var((-1, -2)) <= patches.var((-1, -2)) + 1e-6).all()
    assert out.var() < 0.7 * patches.var()


def test_blur_equals_the_convolution_of_each_patch():
    patches, _ = views(R=2, N=1, C=1, P=8)
    sigma = 1.6
    blur = changes.blur_matrix(torch.full((2,), sigma / 2), torch.tensor([True, False]), 8)
    out = changes.change(patches, replace(unchanged(2), blur=blur))
    weights = [torch.tensor(-0.5 * (d / (sigma / 2)) ** 2).exp() for d in range(-4, 5)]
    total = sum(weights)
    y, x, value = 2, 6, 0.0
    for i, down in enumerate(weights):
        for j, right in enumerate(weights):
            row, column = min(max(y + i - 4, 0), 7), min(max(x + j - 4, 0), 7)
            value += down * right / total**2 * patches[0, 0, 0, row, column]
    torch.testing.assert_close(out[0, 0, 0, y, x], value)
    assert torch.equal(out[1], patches[1])


def test_blur_probability_is_the_share_of_views_that_are_blurred():
    """In DINOv2's code it is the share that is not."""
    patches, _ = views(R=400, N=1, C=1)

    def share(blur: float) -> float:  # of views changed; a sigma near 0.1 changes nothing
        changed = (applied(patches, blur=blur)[0] - patches).abs().amax((1, 2, 3, 4)) > 1e-6
        return float(changed.float().mean())

    everyone = share(1.0)
    assert everyone > 0.8
    assert share(0.0) == 0
    assert share(0.25) == pytest.approx(0.25 * everyone, abs=0.06)


def test_solarize_leaves_the_dark_and_a_second_time_changes_nothing():
    patches, _ = views()
    once, _ = applied(patches, solarize=1.0)
    assert torch.equal(once, torch.where(patches >= 0.5, 1 - patches, patches))
    twice, _ = applied(once, solarize=1.0)
    torch.testing.assert_close(twice, once)


def test_each_view_gets_its_own_draw():
    patches = views(R=1)[0].expand(5, -1, -1, -1, -1)
    out, _ = applied(patches, jitter=1.0, brightness=0.4)
    assert len({float(row.sum()) for row in out}) == 5


@pytest.mark.parametrize("channels", [1, 3])
def test_everything_at_once_stays_within_0_and_1_and_follows_the_seed(channels):
    patches, windows = views(C=channels)
    strengths = {"flip": 0.5, "jitter": 1.0, "brightness": 0.9, "contrast": 0.9}
    if channels == 3:
        strengths |= {"saturation": 0.9, "hue": 0.5, "grayscale": 0.3}
    results = [
        applied(patches, windows, blur=0.5, solarize=0.5, seed=seed, **strengths)[0]
        for seed in (1, 1, 2)
    ]
    assert results[0].min() >= 0
    assert results[0].max() <= 1 + 1e-6
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_autocast_changes_nothing():
    patches, windows = views()
    plain, _ = applied(patches, windows, jitter=1.0, hue=0.2, blur=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(applied(patches, windows, jitter=1.0, hue=0.2, blur=1.0)[0], plain)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_waits_for_no_device(channels):
    config = AugmentConfig(saturation=0.2 * (channels == 3))
    patches, windows = views(C=channels)
    with second_device() as device:
        there, generator = (patches.to(device), windows.to(device)), torch.Generator(device)
        with waits() as found:
            augment(*there, config, 0.5, 0.5, generator)
    assert not found
