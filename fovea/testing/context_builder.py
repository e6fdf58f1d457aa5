"""The contract of context builders."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fovea.interfaces import ContextBuilder
from fovea.testing import inputs
from fovea.testing.modules import expect_close
from fovea.testing.randomness import drawn_from, generator
from fovea.testing.rules import Rule, Subject, check, expect
from fovea.testing.second_device import second_device
from fovea.testing.settings import RULES as SETTINGS

_BATCH = 8
_DRAWS = 16


@dataclass(frozen=True)
class Context(Subject):
    """A context under test."""

    kind: ClassVar[str] = "context_builder"

    def lay(self, seed: int | None = None, batch: int = _BATCH, device: str = "cpu") -> Tensor:
        """Lay out windows [batch, N, 3], as in training with a seed, else as in evaluation."""
        built: ContextBuilder = self.build()
        drawing = None if seed is None else generator(seed, batch, device)
        return built.windows(_gaze(batch).to(device), inputs.sizes(batch, device), drawing)


def check_context_builder(name: str, /, **settings: Any) -> None:
    """Check a registered context against its contract.

    Args:
        name: the registered one.
        **settings: of its Config.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    check(Context(name, settings), RULES)


def gives_windows(context: Context) -> None:
    """Windows are float64 [B, N, 3], where N is `num_windows`, in training and evaluation."""
    N = context.build().num_windows
    for seed in (None, 0):
        for batch in (1, _BATCH):
            windows = context.lay(seed, batch)
            wanted = [batch, N, 3]
            expect(list(windows.shape) == wanted, f"they are {list(windows.shape)}, not {wanted}")
            expect(windows.dtype == torch.float64, f"they are {windows.dtype}")


def gives_finite_windows(context: Context) -> None:
    """All windows are finite, at the border of the image too."""
    for seed in (None, 0):
        expect(bool(context.lay(seed).isfinite().all()), "they are not")


def is_fixed_without_a_generator(context: Context) -> None:
    """Without a generator nothing is random."""
    _expect_own_randomness(lambda: context.lay())


def follows_its_generator(context: Context) -> None:
    """With a generator, its seed alone decides what is drawn."""
    _expect_own_randomness(lambda: context.lay(5))


def keeps_to_its_finest_zoom(context: Context) -> None:
    """No window has a larger zoom than `finest_zoom`, drawn or fixed."""
    limit = context.build().finest_zoom
    for seed in (None, *range(_DRAWS)):
        zoom = context.lay(seed, 4 * _BATCH)[..., 2].max().item()
        expect(zoom <= limit + 1e-9, f"a window has {zoom:.4g}, and finest_zoom is {limit:.4g}")
    expect(not math.isnan(limit), "finest_zoom is not a number")


def lays_each_image_for_itself(context: Context) -> None:
    """Without a generator, an image's windows do not depend on the others in its batch."""
    built, gaze, sizes = context.build(), _gaze(_BATCH), inputs.sizes(_BATCH)
    together = context.lay()
    for b in range(_BATCH):
        alone = built.windows(gaze[b : b + 1], sizes[b : b + 1], None)[0]
        expect_close(alone, together[b], "windows of an image alone and in a batch", 1e-12)


def leaves_its_inputs(context: Context) -> None:
    """Gaze and sizes are left as they were."""
    gaze, sizes = _gaze(_BATCH), inputs.sizes(_BATCH)
    context.build().windows(gaze, sizes, generator(0, _BATCH))
    expect(torch.equal(gaze, _gaze(_BATCH)), "the gaze is changed")
    expect(torch.equal(sizes, inputs.sizes(_BATCH)), "the sizes are changed")


def works_on_a_device(context: Context) -> None:
    """On a GPU, or the kit's stand-in for one, windows are where the gaze is."""
    with second_device() as device:
        for seed in (None, 0):
            windows = context.lay(seed, device=device.type)
            expect(windows.device == device, f"they are on {windows.device}")


def _gaze(batch: int) -> Tensor:
    """Draw gazes, float32 [batch, 2], among them corners of the image."""
    gaze = inputs.random((batch, 2))
    gaze[0] = 0.0
    gaze[-1] = 1.0
    return gaze


def _expect_own_randomness(lay: Callable[[], Tensor]) -> None:
    first = lay()
    drawn = drawn_from(lay)
    expect(not drawn, f"the global generator of {', '.join(drawn)} is drawn from")
    expect(torch.equal(lay(), first), "the windows of two calls differ")


RULES: tuple[Rule[Context], ...] = (
    *SETTINGS,
    gives_windows,
    gives_finite_windows,
    leaves_its_inputs,
    is_fixed_without_a_generator,
    follows_its_generator,
    keeps_to_its_finest_zoom,
    lays_each_image_for_itself,
    works_on_a_device,
)
