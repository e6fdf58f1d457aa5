"""For each rule of extractors, one that breaks it, and is caught."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from testing.strangers import Settings, assert_caught, assert_passes
from torch import Tensor

import fovea
from fovea.config import Section
from fovea.images import as_images
from fovea.interfaces import PatchExtractor, Scene, normalise
from fovea.testing import patch_extractor as rules
from fovea.testing.inputs import pictures
from fovea.testing.rules import Rule
from fovea.testing.settings import RULES as SETTINGS


class PlainScene(Scene):
    def __init__(self, inner: Scene):
        self.inner, self.sizes = inner, inner.sizes

    def read(self, windows: Tensor) -> Tensor:
        return self.inner.read(windows)


class Plain(PatchExtractor):
    """The extractor ``resize``, and a scene of its own."""

    Config = Settings
    Scene: type[PlainScene] = PlainScene

    def __init__(
        self,
        config: Section,
        *,
        patch_size: int = 16,
        channels: int | None = None,
        fill: tuple[float, ...] = (0.5,),
    ):
        given = {"patch_size": patch_size, "channels": channels, "fill": fill}
        self.inner = fovea.create("patch_extractor", "resize", **given)

    def prepare(self, images: Any, device: Any = None) -> Scene:
        return self.Scene(self.inner.prepare(images, device))


def reading(change: Callable[[Tensor, Tensor], Tensor]) -> type:
    """Make an extractor of what it does to patches that were read, and their windows."""

    class AlteredScene(PlainScene):
        def read(self, windows: Tensor) -> Tensor:
            return change(super().read(windows), windows)

    class Altered(Plain):
        Scene = AlteredScene

    return Altered


def sized(change: Callable[[Tensor], Tensor]) -> type:
    class AlteredScene(PlainScene):
        def __init__(self, inner: Scene):
            super().__init__(inner)
            self.sizes = change(inner.sizes)

    class Altered(Plain):
        Scene = AlteredScene

    return Altered


def refusing(change: Callable[[Tensor, int], Tensor]) -> type:
    """Make an extractor that reads other windows than it is asked for."""

    class AlteredScene(PlainScene):
        def read(self, windows: Tensor) -> Tensor:
            return super().read(change(windows, len(self)))

    class Altered(Plain):
        Scene = AlteredScene

    return Altered


def preparing(change: Callable[[Any], Any]) -> type:
    class Altered(Plain):
        def prepare(self, images: Any, device: Any = None) -> Scene:
            return super().prepare(change(images), device)

    return Altered


def darkens(images: Any) -> Any:
    for image in images:
        image += 1
    return images


def squares(windows: Tensor, B: int) -> Tensor:
    """Take windows of any shape."""
    if windows.ndim != 3 or windows.shape[2] != 3:
        windows = torch.zeros(B, 1, 3).double()
    return windows[:B]


class LeftOut(Plain):
    def prepare(self, images: Any, device: Any = None) -> Scene:
        three = [image[..., :3] for image in as_images(images)]
        return super().prepare([image.movedim(2, 0) for image in three], device)


class LateTokens(PlainScene):
    def tokens(self, windows: Tensor, mean: Tensor, std: Tensor, dtype: Any = None) -> Tensor:
        return normalise(self.read(windows), mean, std)


class WithLateTokens(Plain):
    Scene = LateTokens


class Wordy(Plain):
    def describe(self, device: Any = None) -> str:
        return "two\nlines"


def unlike_the_batch(patches: Tensor, windows: Tensor) -> Tensor:
    return patches * (1 - 1e-4 * len(patches))


def bluish(patches: Tensor, windows: Tensor) -> Tensor:
    """Fill what is far outside with another colour."""
    outside = (windows[..., :2].abs() > 3).any(-1)
    return torch.where(outside[..., None, None, None], torch.zeros(()), patches)


BROKEN: list[tuple[type, Rule]] = [
    (sized(lambda sizes: sizes.int()), rules.gives_sizes),
    (sized(lambda sizes: sizes.flip(1)), rules.gives_sizes),
    (reading(lambda p, w: p.double()), rules.gives_patches),
    (reading(lambda p, w: p.movedim(2, -1)), rules.gives_patches),
    (reading(lambda p, w: p * 255), rules.gives_patches),
    (reading(lambda p, w: p.transpose(3, 4)), rules.reads_area_averages),
    (reading(lambda p, w: p + 2e-3), rules.reads_area_averages),
    (reading(bluish), rules.fills_outside),
    (reading(unlike_the_batch), rules.reads_each_patch_for_itself),
    (reading(lambda p, w: p - 1e-6 * torch.rand(())), rules.repeats_itself),
    (
        reading(lambda p, w: p - 1e-6 * float(np.random.default_rng().random())),
        rules.repeats_itself,
    ),
    (reading(lambda p, w: (p, w.add_(1))[0]), rules.leaves_its_inputs),
    (preparing(darkens), rules.leaves_its_inputs),
    (WithLateTokens, rules.makes_tokens),
    (refusing(lambda w, B: w.nan_to_num(0, 0, 0)), rules.refuses_windows_that_are_not_finite),
    (refusing(squares), rules.refuses_windows_that_do_not_fit),
    (preparing(lambda images: images or pictures()), rules.refuses_no_images),
    (LeftOut, rules.refuses_other_channels),
    (Wordy, rules.describes_itself),
    (sized(lambda sizes: sizes.cpu()), rules.works_on_a_device),
    (reading(lambda p, w: p.cpu()), rules.works_on_a_device),
    (reading(lambda p, w: p * torch.ones(p.shape[-1])), rules.works_on_a_device),
]


def test_a_plain_one_passes() -> None:
    assert_passes("patch_extractor", Plain)


@pytest.mark.parametrize(("target", "rule"), BROKEN)
def test_a_broken_one_is_caught(target: type, rule: Rule) -> None:
    assert_caught("patch_extractor", target, rule)


def test_every_rule_has_one_that_breaks_it() -> None:
    assert {rule for _, rule in BROKEN} | set(SETTINGS) == set(rules.RULES)
