"""Laws of extraction on a GPU, where there is one: what the CPU gives, and no waiting for it."""

from collections.abc import Iterator

import pytest
import torch
from oracle import draw_windows, extractor, noise
from test_triton import (
    LIMIT,
    assert_large_cells_are_nan,
    assert_unreadable_is_nan,
    random_batch,
)

from fovea.extract import integral
from fovea.extract.integral import IntegralScene
from fovea.images import Packed
from fovea.interfaces import normalise

pytestmark = pytest.mark.gpu
READERS = ("triton", "torch")


@pytest.fixture
def unwaiting() -> Iterator[None]:
    """Make it an error that the host waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 17])
def test_tables_are_those_of_the_cpu_bit_for_bit(channels: int) -> None:
    packed = random_batch(channels, 200)
    slow = extractor("integral").prepare(packed)
    for reader in READERS:
        fast = extractor(f"integral/{reader}").prepare(packed, "cuda")
        assert torch.equal(fast.table.cpu(), slow.table)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(7168, 7168), (1, 100_000), (600_000, 2), (5000, 33)])
def test_tables_of_large_images_wrap_as_those_of_the_cpu(size: tuple[int, int]) -> None:
    image = noise(*size) | 128
    slow, fast = (extractor("integral").prepare(image, device) for device in ("cpu", "cuda"))
    assert torch.equal(fast.table.cpu(), slow.table)  # type: ignore[attr-defined]


@pytest.mark.parametrize("patch", [1, 7, 14, 16, 40])
@pytest.mark.parametrize("mode", ["exact", "nearest"])
def test_patches_and_tokens_are_those_of_the_cpu(mode: str, patch: int) -> None:
    images = [noise(300, 500), noise(64, 64, seed=1), noise(64, 64, seed=2), noise(1, 7)]
    windows = draw_windows(4, 50)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    wanted = extractor("integral/torch", patch, mode=mode).prepare(images).read(windows)
    for reader in READERS:
        fast = extractor(f"integral/{reader}", patch, mode=mode).prepare(images, "cuda")
        patches = fast.read(windows.cuda()).cpu()
        torch.testing.assert_close(patches, wanted, rtol=0, atol=1e-6)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            tokens = fast.tokens(windows.cuda(), mean.cuda(), std.cuda(), dtype).cpu().float()
            rounding = 0 if dtype == torch.float32 else 2**-8
            normal = normalise(wanted, mean, std)
            torch.testing.assert_close(tokens, normal, rtol=rounding, atol=1e-5)


@pytest.mark.parametrize("reader", READERS)
def test_reading_beyond_the_wrap_is_exact(reader: str) -> None:
    image = torch.full((3000, 3000, 1), 255, dtype=torch.uint8).numpy()
    image[2990:, 2990:] = noise(10, 10, 1)
    windows = torch.tensor([[[0.999, 0.999, 8.0], [0.5, 0.5, 0.0]]]).double()
    wanted = extractor("resize", 4).prepare(image).read(windows)
    found = extractor(f"integral/{reader}", 4).prepare(image, "cuda").read(windows.cuda())
    torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["exact", "nearest"])
@pytest.mark.parametrize("reader", READERS)
def test_what_the_cpu_refuses_reads_as_nan(
    reader: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = extractor(f"integral/{reader}", 3, mode=mode).prepare(noise(40, 50), "cuda")
    assert isinstance(scene, IntegralScene)
    assert_unreadable_is_nan(scene, scene.read)
    from fovea.extract import triton_kernel

    for module in (integral, triton_kernel):
        monkeypatch.setattr(module, "LARGEST_CELL", LIMIT)
    assert_large_cells_are_nan(scene, scene.read)


@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("reader", READERS)
def test_the_host_never_waits(reader: str, place: str, unwaiting: None) -> None:
    arrays = [noise(40, 50, seed=i) for i in range(3)]
    mean, std = (torch.rand(3, device="cuda") for _ in range(2))
    windows = torch.rand(3, 5, 3, device="cuda", dtype=torch.float64)
    batch = torch.zeros(3, 3, 40, 50, dtype=torch.uint8).pin_memory().to(place, non_blocking=True)
    pixels = Packed.of(arrays).pixels.pin_memory().to(place, non_blocking=True)
    for images in (Packed(pixels, [(40, 50, 3)] * 3), batch):
        scene = extractor(f"integral/{reader}").prepare(images, "cuda")
        scene.read(windows)
        scene.tokens(windows, mean, std, torch.bfloat16)
