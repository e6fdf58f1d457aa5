"""Laws of tables: what an entry is, wrap-around, dtypes, and the memory they live in."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from oracle import INTEGRAL, assert_reads, draw_windows, extractor, noise
from torch import Tensor

import fovea
from fovea.extract import integral, lattice, table
from fovea.extract.integral import IntegralScene
from fovea.extract.table import Buffers, build_tables, scan_tables

BUILDERS = ("cv2", "torch")


def built(images: list[Tensor], builder: str) -> Tensor:
    """Build a flat table of images by name; ``scan`` is the GPU's way, on the CPU."""
    if builder == "scan":
        return scan_tables(images)
    entries = [(image.shape[0] + 1) * (image.shape[1] + 1) for image in images]
    offsets = [sum(entries[:i]) for i in range(len(images))]
    out = torch.full((sum(entries), images[0].shape[2]), 7, dtype=table.ENTRIES[images[0].dtype])
    build_tables(images, offsets, out, builder)  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("builder", [*BUILDERS, "scan"])
@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_entry_is_the_sum_above_and_left_of_it(
    builder: str, channels: int, dtype: type[np.unsignedinteger]
) -> None:
    shapes = [(7, 5, channels), (1, 1, channels), (2, 9, channels), (2, 9, channels)]
    high = np.iinfo(dtype).max
    arrays = [
        np.random.default_rng(i).integers(0, high, s).astype(dtype) for i, s in enumerate(shapes)
    ]
    found = built([torch.from_numpy(array) for array in arrays], builder)
    start = 0
    for array in arrays:
        H, W, C = array.shape
        wanted = np.zeros((H + 1, W + 1, C), dtype=np.int64)
        for y in range(1, H + 1):
            for x in range(1, W + 1):
                wanted[y, x] = array[:y, :x].astype(np.int64).sum((0, 1))
        part = found[start : start + (H + 1) * (W + 1)].view(H + 1, W + 1, C)
        assert torch.equal(part.long(), torch.from_numpy(wanted))
        start += (H + 1) * (W + 1)


@pytest.mark.parametrize("builder", [*BUILDERS, "scan"])
def test_every_builder_wraps_alike_beyond_the_range_of_int32(builder: str) -> None:
    image = torch.full((3000, 3000, 1), 255, dtype=torch.uint8)  # sums to 2.3e9
    total = built([image], builder)[-1].item()
    assert total == 3000 * 3000 * 255 - 2**32 < 0


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("name", INTEGRAL)
def test_reading_beyond_the_wrap_is_exact(name: str, builder: str) -> None:
    image = np.full((3000, 3000, 1), 255, dtype=np.uint8)
    image[2990:, 2990:] = noise(10, 10, 1)
    windows = torch.tensor([[0.999, 0.999, 8.0], [0.5, 0.5, 0.0], [0.9, 0.9, 2.0]]).double()
    assert_reads(name, image, windows, patch=4, table=builder)


@pytest.mark.parametrize("mode", ["exact", "nearest"])
@pytest.mark.parametrize("name", INTEGRAL)
def test_a_table_shifted_across_the_wrap_reads_the_same(name: str, mode: str) -> None:
    scene = extractor(name, mode=mode).prepare(noise(50, 60))
    assert isinstance(scene, IntegralScene)
    windows = draw_windows(1, 200)
    for shift in (2**31 - 1000, -(2**31), 2**31 - 150_000):
        shifted = (scene.table.long() + shift + 2**31) % 2**32 - 2**31
        assert (shifted < 0).any()
        moved = with_table(scene, shifted.int())
        assert torch.equal(moved.read(windows), scene.read(windows))


def with_table(scene: IntegralScene, entries: Tensor) -> IntegralScene:
    parts = {name: getattr(scene, name) for name in scene.__dataclass_fields__}
    return IntegralScene(**{**parts, "table": entries})


@pytest.mark.parametrize("name", INTEGRAL)
def test_a_cell_whose_sum_may_wrap_is_refused(name: str) -> None:
    side = 2**13
    scene = extractor(name, patch=2).prepare(np.zeros((1, 1, 1), dtype=np.uint8))
    assert isinstance(scene, IntegralScene)
    zeros = torch.zeros(1, 1, dtype=torch.int32).expand((side + 1) ** 2, 1)
    parts = {field: getattr(scene, field) for field in scene.__dataclass_fields__}
    large = IntegralScene(**{**parts, "table": zeros, "sizes": torch.tensor([[side, side]])})
    with pytest.raises(ValueError, match=r"a cell of 16777216 pixels .* larger patch_size than 2"):
        large.read(torch.tensor([[[0.5, 0.5, 0.0]]]))
    if name == "integral/torch":  # the other would copy the expanded zeros
        assert large.read(torch.tensor([[[0.5, 0.5, 1.0]]])).eq(0).all()


def test_sixteen_bit_images_are_read_exactly_from_sums_beyond_32_bits() -> None:
    image = np.random.default_rng(0).integers(0, 65536, (300, 400, 2)).astype(np.uint16)
    windows = draw_windows(1, 60)
    found = extractor("integral").prepare(image).read(windows)
    wanted = extractor("resize").prepare(image).read(windows)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)  # every level, one pixel per cell
    patch = fovea.create("patch_extractor", "integral", patch_size=256).prepare(ramp)
    levels = patch.read(torch.tensor([[[0.5, 0.5, 0.0]]])) * 65535
    assert torch.equal(levels.round().flatten(), torch.arange(65536.0))


@pytest.mark.parametrize("mode", ["exact", "nearest"])
def test_float_images_carry_gradients_to_their_pixels(mode: str) -> None:
    image = torch.rand(2, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    windows = draw_windows(1, 5, low=-1, high=4)
    reader = extractor("integral", patch=3, mode=mode)
    assert torch.autograd.gradcheck(
        lambda pixels: reader.prepare(pixels).read(windows), image.requires_grad_()
    )


def test_float_images_read_as_their_bytes_do() -> None:
    image, windows = noise(40, 60), draw_windows(1, 50)
    floats = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    reader = extractor("integral")
    found = reader.prepare(floats).read(windows)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reader.prepare(image).read(windows), rtol=0, atol=1e-6)


def test_thirty_two_images_of_as_many_sizes_equal_single_ones_bit_for_bit() -> None:
    images = [noise(20 + 7 * i, 150 - 4 * i, seed=i) for i in range(32)]
    windows = draw_windows(32, 60)
    for name in INTEGRAL:
        reader = extractor(name)
        together = reader.prepare(images).read(windows)
        for i, image in enumerate(images):
            single = reader.prepare(image).read(windows[i : i + 1])[0]
            assert torch.equal(together[i], single)


def test_the_chunks_of_a_read_do_not_show() -> None:
    scene = extractor("integral/torch").prepare(noise(50, 60))
    assert isinstance(scene, IntegralScene)
    windows = draw_windows(1, 2 * lattice._CHUNK + 3)
    whole = scene.read(windows)
    for i in (0, lattice._CHUNK - 1, lattice._CHUNK, 2 * lattice._CHUNK + 2):
        assert torch.equal(whole[:, i : i + 1], scene.read(windows[:, i : i + 1]))


def test_a_buffer_is_used_again_only_when_nothing_looks_at_it() -> None:
    buffers = Buffers()
    first = buffers.take(100, 3, torch.int32)
    view = first[10:20]
    place = first.data_ptr()
    second = buffers.take(100, 3, torch.int32)
    assert second.data_ptr() != place
    del first
    third = buffers.take(100, 3, torch.int32)
    assert third.data_ptr() != place  # the view still looks
    del view
    assert buffers.take(90, 3, torch.int32).data_ptr() == place


def test_buffers_do_not_grow_with_the_number_of_images() -> None:
    buffers, held = Buffers(), []
    draws = np.random.default_rng(0).integers(1_000, 16_000, 300).tolist()
    for count in draws:
        taken = buffers.take(count, 3, torch.int32)
        held = [*held[-1:], taken]  # two at a time
    assert buffers.nbytes <= 3 * max(draws) * 12
    del taken, held
    buffers.take(10, 3, torch.int32)  # far smaller: what is idle goes back to the system
    assert buffers.nbytes == 120


def test_a_scene_keeps_its_pixels_while_others_come_and_go() -> None:
    reader, windows = extractor("integral"), draw_windows(1, 20)
    scene = reader.prepare(noise(64, 64))
    before = scene.read(windows)
    for seed in range(1, 6):
        reader.prepare(noise(64, 64, seed=seed))
    assert torch.equal(scene.read(windows), before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copied_extractor_shares_no_memory(duplicate: object) -> None:
    reader = extractor("integral")
    scene = reader.prepare(noise(64, 64))
    copied = duplicate(reader)  # type: ignore[operator]
    assert copied.buffers.nbytes == 0
    assert torch.equal(copied.prepare(noise(64, 64)).table, scene.table)  # type: ignore[attr-defined]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the extra ``fast``."""
    for module in ("cv2", "numba"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(integral, "is_installed", table.is_installed.__wrapped__)
    monkeypatch.setattr(table, "is_installed", table.is_installed.__wrapped__)


@pytest.mark.usefixtures("bare")
def test_without_the_extra_auto_is_torch_and_the_rest_names_what_to_install() -> None:
    reader = extractor("integral")
    assert reader.describe() == "integral, exact: tables by torch, patches by torch"
    assert reader.prepare(noise(8, 8)).read(draw_windows(1, 2)).isfinite().all()
    with pytest.raises(ValueError, match=r"^extractor\.table: cv2 is not installed; pip install"):
        extractor("integral", table="cv2")
    with pytest.raises(
        ValueError, match=r"^extractor\.reader: numba is not installed; pip install"
    ):
        extractor("integral/numba").prepare(noise(8, 8))


def test_auto_takes_what_is_installed_and_says_so() -> None:
    reader = extractor("integral")
    assert reader.describe("cpu") == "integral, exact: tables by cv2, patches by numba"
    with pytest.raises(ValueError, match=r"^extractor\.reader: triton reads on CUDA, not on cpu"):
        extractor("integral/triton").prepare(noise(8, 8))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.int32), "uint8, uint16, float32, float64, got int32"),
        (np.full((4, 4), 2.0, np.float32), "float pixels from 2 to 2, expected 0 to 1"),
        (np.full((4, 4), np.nan), "float pixels from nan to nan"),
    ],
)
def test_other_dtypes_and_ranges_are_refused_by_name(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extractor("integral").prepare(image)
    with pytest.raises(ValueError, match=r"images\[1\]: uint16, but images\[0\] is uint8"):
        extractor("integral").prepare([noise(4, 4), noise(4, 4).astype(np.uint16)])
