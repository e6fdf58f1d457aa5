"""The contract of patch extractors."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fovea.interfaces import Scene, normalise
from fovea.parts import create
from fovea.testing import inputs
from fovea.testing.modules import expect_close
from fovea.testing.randomness import drawn_from
from fovea.testing.rules import Broken, Rule, Subject, check, expect
from fovea.testing.second_device import second_device
from fovea.testing.settings import RULES as SETTINGS

_ROUNDING = 1e-5


@dataclass(frozen=True)
class Extractor(Subject):
    """An extractor under test.

    Attributes:
        images: what it prepares.
        tolerance: greatest difference from the area average.
    """

    images: Sequence[Any]
    tolerance: float
    kind: ClassVar[str] = "patch_extractor"
    sizes: ClassVar[dict[str, Any]] = {
        "patch_size": inputs.PATCH,
        "channels": inputs.CHANNELS,
        "fill": (0.1, 0.5, 0.8),
    }

    def size(self, name: str) -> Any:
        """Return what the constructor is given."""
        return self.given.get(name, self.sizes[name])

    def scene(self) -> Scene:
        """Prepare the images."""
        scene: Scene = self.build().prepare(self.images)
        return scene

    def windows(self, count: int = 6) -> Tensor:
        """Draw windows for the images, float64 [B, count, 3]."""
        return inputs.windows(len(self.images), count)

    def are_in_memory(self) -> bool:
        """Say whether the images are arrays, tensors and PIL images, which ``resize`` reads too."""
        return all(isinstance(one, np.ndarray | Tensor | Image.Image) for one in self.images)


def check_patch_extractor(
    name: str,
    /,
    *,
    images: Sequence[Any] | None = None,
    tolerance: float = 1e-3,
    **settings: Any,
) -> None:
    """Check a registered extractor against its contract.

    Args:
        name: the registered one.
        images: what it prepares, at least two; by default arrays of several sizes. What is not in
            memory, as paths, is not compared with ``resize``.
        tolerance: greatest difference from ``resize``, the plain meaning, in 0..1.
        **settings: of its Config; also ``patch_size``, ``channels`` and ``fill``.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    given = inputs.pictures() if images is None else images
    check(Extractor(name, settings, given, tolerance), RULES)


def gives_sizes(extractor: Extractor) -> None:
    """A scene has the sizes of its images, int64 [B, 2], (height, width)."""
    sizes = extractor.scene().sizes
    expect(sizes.dtype == torch.int64, f"they are {sizes.dtype}")
    B = len(extractor.images)
    expect(list(sizes.shape) == [B, 2], f"{B} images have sizes {list(sizes.shape)}")
    for image, size in zip(extractor.images, sizes.tolist(), strict=True):
        if isinstance(image, np.ndarray):
            wanted = list(image.shape[:2])
            expect(size == wanted, f"an image of {wanted} is said to be {size}")


def gives_patches(extractor: Extractor) -> None:
    """Patches are float32 [B, N, C, P, P] in 0..1."""
    patches = extractor.scene().read(extractor.windows())
    P, C = extractor.size("patch_size"), extractor.size("channels")
    wanted = [len(extractor.images), 6, C, P, P]
    expect(list(patches.shape) == wanted, f"they are {list(patches.shape)}, not {wanted}")
    expect(patches.dtype == torch.float32, f"they are {patches.dtype}")
    low, high = patches.min().item(), patches.max().item()
    expect(0 <= low <= high <= 1, f"they reach from {low:g} to {high:g}")


def reads_area_averages(extractor: Extractor) -> None:
    """Each target pixel is the area average of its cell inside the image, as of `resize`."""
    if not extractor.are_in_memory():
        return
    chosen = {name: extractor.size(name) for name in extractor.sizes}
    plain = create("patch_extractor", "resize", **chosen).prepare(extractor.images)
    windows = extractor.windows(24)
    patches, wanted = extractor.scene().read(windows), plain.read(windows)
    off = (patches - wanted).abs().amax((2, 3, 4))  # [B, N]
    b, n = divmod(int(off.argmax()), off.shape[1])
    x, y, zoom = windows[b, n].tolist()
    expect(
        off.max().item() <= extractor.tolerance,
        f"image {b} at x={x:.2f}, y={y:.2f}, zoom={zoom:.2f} is off by {off.max().item():.2g}, "
        f"and the tolerance is {extractor.tolerance:g}",
    )


def fills_outside(extractor: Extractor) -> None:
    """A cell that lies outside of its image has the fill colour."""
    outside = torch.tensor([[-4.0, 0.5, 1.0], [0.5, 6.0, 2.0]]).double()
    windows = outside.expand(len(extractor.images), -1, -1)
    patches = extractor.scene().read(windows)  # [B, 2, C, P, P]
    fill = torch.tensor(extractor.size("fill")).expand(patches.shape[2])
    wanted = fill[:, None, None].expand_as(patches)
    expect_close(patches, wanted, "the colours", _ROUNDING)


def reads_each_patch_for_itself(extractor: Extractor) -> None:
    """A patch depends on its image and its window only, not on others of the call."""
    built, windows = extractor.build(), extractor.windows()
    together = built.prepare(extractor.images).read(windows)
    for b, image in enumerate(extractor.images):
        alone = built.prepare([image]).read(windows[b : b + 1, ::2])[0]
        expect_close(alone, together[b, ::2], f"patches of image {b} alone and in a batch")


def repeats_itself(extractor: Extractor) -> None:
    """Reading is repeatable and draws from no global generator."""
    windows = extractor.windows()
    first = extractor.scene().read(windows)
    drawn = drawn_from(lambda: extractor.scene().read(windows))
    expect(not drawn, f"it draws from that of {', '.join(drawn)}")
    expect(torch.equal(extractor.scene().read(windows), first), "a second scene reads differently")


def leaves_its_inputs(extractor: Extractor) -> None:
    """Images and windows are left as they were."""
    images, windows = copy.deepcopy(list(extractor.images)), extractor.windows()
    extractor.build().prepare(images).read(windows)
    expect(torch.equal(windows, extractor.windows()), "the windows are changed")
    for image, before in zip(images, extractor.images, strict=True):
        if isinstance(image, np.ndarray):
            expect(np.array_equal(image, before), "an image is changed")


def makes_tokens(extractor: Extractor) -> None:
    """tokens() gives normalised, flattened patches, [B, N, C*P*P], in the dtype asked for."""
    scene, windows = extractor.scene(), extractor.windows()
    patches = scene.read(windows)
    mean = torch.linspace(0.3, 0.6, patches.shape[2])
    std = torch.linspace(0.2, 0.4, patches.shape[2])
    tokens = scene.tokens(windows, mean, std)
    expect_close(tokens, normalise(patches, mean, std), "tokens and patches")
    short = scene.tokens(windows, mean, std, torch.bfloat16)
    expect(short.dtype == torch.bfloat16, f"asked for bfloat16, it gives {short.dtype}")


def refuses_windows_that_are_not_finite(extractor: Extractor) -> None:
    """Windows that are not finite are refused by a ValueError."""
    scene = extractor.scene()
    for number in (float("nan"), float("inf")):
        for place in range(3):
            windows = extractor.windows()
            windows[-1, 1, place] = number
            _expect_refused(scene, windows, f"{'xyz'[place]} = {number}")


def refuses_windows_that_do_not_fit(extractor: Extractor) -> None:
    """Windows of a wrong shape are refused by a ValueError."""
    scene, windows = extractor.scene(), extractor.windows()
    wrong = (windows[0], windows[..., :2], torch.cat([windows, windows[:1]]))
    for one in wrong:
        _expect_refused(scene, one, f"the shape {list(one.shape)} for {len(scene)} images")


def refuses_no_images(extractor: Extractor) -> None:
    """An empty list of images is refused by a ValueError."""
    try:
        extractor.build().prepare([])
    except ValueError:
        return
    raise Broken("it is taken")


def refuses_other_channels(extractor: Extractor) -> None:
    """Arrays that cannot be brought to the channels asked for are refused by a ValueError."""
    image = np.zeros((16, 16, extractor.size("channels") + 1), np.uint8)
    try:
        extractor.build().prepare([image])
    except ValueError:
        return
    raise Broken(f"{image.shape[2]} channels are taken for {extractor.size('channels')}")


def describes_itself(extractor: Extractor) -> None:
    """describe() gives one line."""
    text = extractor.build().describe()
    is_line = isinstance(text, str) and len(text.splitlines()) == 1
    expect(is_line, f"it gives {text!r}")


def works_on_a_device(extractor: Extractor) -> None:
    """On a GPU, or the kit's stand-in for one, scenes are there and patches those of the CPU."""
    windows = extractor.windows()
    on_cpu = extractor.scene().read(windows)
    with second_device() as device:
        scene = extractor.build().prepare(extractor.images, device)
        expect(scene.sizes.device == device, f"the sizes are on {scene.sizes.device}")
        patches = scene.read(windows.to(device))
        expect(patches.device == device, f"the patches are on {patches.device}")
        expect_close(patches.cpu(), on_cpu, "patches of CPU and GPU")


def _expect_refused(scene: Scene, windows: Tensor, what: str) -> None:
    try:
        scene.read(windows)
    except ValueError:
        return
    raise Broken(f"{what} is taken")


RULES: tuple[Rule[Extractor], ...] = (
    *SETTINGS,
    gives_sizes,
    gives_patches,
    leaves_its_inputs,
    reads_area_averages,
    reads_each_patch_for_itself,
    fills_outside,
    repeats_itself,
    makes_tokens,
    refuses_windows_that_are_not_finite,
    refuses_windows_that_do_not_fit,
    refuses_no_images,
    refuses_other_channels,
    describes_itself,
    works_on_a_device,
)
