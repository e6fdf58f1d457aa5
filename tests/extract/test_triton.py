"""Laws of the GPU's kernels: interpreted on the CPU, compiled for GPUs, run where there is one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from oracle import INTEGRAL, draw_windows, extractor, noise
from torch import Tensor

from fovea.extract import integral
from fovea.extract.integral import IntegralScene
from fovea.images import Packed

SIDES = (1, 2, 7, 8, 9, 15, 16, 17, 31, 61, 64, 67)
"""Sides about those of the blocks that the kernels work in."""

LIMIT = 60
"""Pixels of the largest cell, where a test lowers the limit."""


def random_batch(channels: int, count: int, seed: int = 0) -> Packed:
    """Draw images of mixed sizes, of which the first are a pixel, a row and a column."""
    drawn = torch.randint(len(SIDES), (count, 2), generator=torch.Generator().manual_seed(seed))
    sizes = [(1, 1), (1, 259), (83, 1)] + [(SIDES[h], SIDES[w] // 2 + 1) for h, w in drawn.tolist()]
    images = [noise(H, W, channels, seed=seed + i) for i, (H, W) in enumerate(sizes)]
    return Packed.of(images)


def unreadable() -> tuple[Tensor, Tensor]:
    """Draw windows [1, 20, 3], and say which of them [1, 20] cannot be read: every second."""
    windows = draw_windows(1, 20, low=0, high=3)
    wrong = [(n, place) for n in (float("nan"), float("inf"), -float("inf")) for place in range(3)]
    for i, (number, place) in enumerate([*wrong, (-64.5, 2)]):
        windows[0, 2 * i, place] = number
    return windows, torch.arange(20)[None] % 2 == 0


def assert_unreadable_is_nan(scene: IntegralScene, read: Callable[[Tensor], Tensor]) -> None:
    windows, lost = unreadable()
    found = read(windows.to(scene.sizes.device)).cpu().flatten(2)
    assert torch.equal(found.isnan(), lost[..., None].expand_as(found))
    alone = read(windows[:, 1::2].to(scene.sizes.device)).cpu().flatten(2)
    assert torch.equal(found[:, 1::2], alone)


def assert_large_cells_are_nan(scene: IntegralScene, read: Callable[[Tensor], Tensor]) -> None:
    """Lower the limit of a cell's pixels before this is called."""
    windows = draw_windows(1, 40, low=0, high=3)
    found = read(windows.to(scene.sizes.device)).cpu().flatten(2)
    cells = scene._cells(windows.to(scene.sizes.device)).largest().cpu().view(1, 40, 1)
    assert torch.equal(found.isnan(), (cells > LIMIT).expand_as(found))
    assert 8 < (cells > LIMIT).sum() < 32


TABLES = """
import torch
from test_triton import random_batch
from fovea.extract import triton_kernel
from fovea.extract.table import Layout, build_tables

torch.use_deterministic_algorithms(True)  # which fills what is not initialised
for channels in (1, 2, 3, 4, 5, 17):
    packed = random_batch(channels, 10 if channels == 3 else 2, seed=channels)
    layout = Layout.of(packed.shapes)
    found = triton_kernel.build_tables(packed.pixels, layout)
    wanted = torch.empty_like(found)
    build_tables(packed.tensors(), layout.offsets.tolist(), wanted, "torch")
    assert torch.equal(found, wanted), channels
"""

WRAPPED = """
import torch
from fovea.extract import triton_kernel
from fovea.extract.table import Layout, scan_tables

triton_kernel._BAND, triton_kernel._ACROSS, triton_kernel._STRIP = 512, 1024, 1024  # fewer programs
image = torch.full((2950, 2950, 1), 255, dtype=torch.uint8)  # sums to 2.2e9
found = triton_kernel.build_tables(image.flatten(), Layout.of([image.shape]))
assert found[-1].item() == 2950 * 2950 * 255 - 2**32
assert torch.equal(found, scan_tables([image]))
"""

READ = """
import math
import torch
from oracle import draw_windows, extractor, noise
from fovea.extract import triton_kernel
from fovea.extract.integral import IntegralScene
from fovea.interfaces import normalise

mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
images = [noise(50, 60), noise(9, 70), noise(1, 1)]
fused = extractor("integral/triton").prepare(images)
fields = {name: getattr(fused, name) for name in fused.__dataclass_fields__}
assert fused.reader == "triton"
for mode, patch in (("exact", 1), ("exact", 14), ("nearest", 3), ("nearest", 16), ("exact", 16)):
    windows = draw_windows(3, 4, seed=patch)
    windows[:, 0] = torch.tensor([0.0, 1.0, 6.0])  # cells of half a pixel at the border
    windows[:, 1] = torch.tensor([0.5 - 1e-9, 0.5 - 1e-9, math.log2(50 / 24)])  # edges at halves
    fused = IntegralScene(**{**fields, "mode": mode, "patch_size": patch})
    wanted = extractor("integral/torch", patch, mode=mode).prepare(images).read(windows)
    torch.testing.assert_close(fused.read(windows), wanted, rtol=0, atol=1e-6)
    tokens = fused.tokens(windows, mean, std)
    torch.testing.assert_close(tokens, normalise(wanted, mean, std), rtol=0, atol=1e-5)

found = fused.read(windows)
for shift in (2**31 - 1000, 2**31 - 150_000):
    shifted = ((fused.table.long() + shift + 2**31) % 2**32 - 2**31).int()
    assert (shifted < 0).any()
    moved = IntegralScene(**{**fields, "patch_size": 16, "table": shifted})
    assert torch.equal(moved.read(windows), found)

traces = windows.repeat_interleave(2, 1).view(3, 4, 2, 3).transpose(1, 2)  # [B, G, N, 3]
assert torch.equal(fused.read(traces.flatten(1, 2)), torch.cat([found, found], 1))
assert torch.equal(fused.read(windows.float()), fused.read(windows.float().double()))
assert fused.read(windows[:, :0]).shape == (3, 0, 3, 16, 16)

for channels in (1, 2, 4, 17):
    image, windows = noise(30, 20, channels), draw_windows(1, 5)
    slow = extractor("resize", 5).prepare(image).read(windows)
    fast = extractor("integral/triton", 5).prepare(image)
    torch.testing.assert_close(fast.read(windows), slow, rtol=0, atol=1e-5)
    triton_kernel._CELLS = 16  # several programs for one patch
    torch.testing.assert_close(fast.read(windows), slow, rtol=0, atol=1e-5)
    triton_kernel._CELLS = 1024
"""

UNREADABLE = """
from oracle import extractor, noise
from test_triton import LIMIT, assert_large_cells_are_nan, assert_unreadable_is_nan
from fovea.extract import triton_kernel

for mode in ("exact", "nearest"):
    scene = extractor("integral/triton", 3, mode=mode).prepare(noise(40, 50))
    assert_unreadable_is_nan(scene, scene._by_triton)
triton_kernel._CELLS = 1  # a program for each row of cells
triton_kernel.LARGEST_CELL = LIMIT
assert_large_cells_are_nan(scene, scene._by_triton)
"""

PREPARED = """
import numpy as np
import torch
from oracle import draw_windows, extractor, noise
from fovea.images import Packed

arrays, windows = [noise(20, 30, seed=i) for i in range(3)], draw_windows(3, 4)
fused = extractor("integral/triton").prepare(arrays)
batch = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
for images in (Packed.of(arrays), batch, batch.contiguous(), np.stack(arrays), list(batch)):
    scene = extractor("integral/triton").prepare(images)
    assert torch.equal(scene.table, fused.table)
    assert torch.equal(scene.sizes, fused.sizes)
deep = extractor("integral/triton").prepare([array.astype(np.uint16) for array in arrays])
assert deep.reader == "torch"
assert deep.table.dtype == torch.int64
assert extractor("integral/triton").describe().endswith("tables by triton, patches by triton")
"""

COMPILED = """
import subprocess
import sys
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fovea.extract import triton_kernel as kernels

TYPES = dict(pixels="*u8", table="*i32", windows="*fp64", sizes="*i64", starts="*i64",
             offsets="*i64", fill="*fp32", mean="*fp32", std="*fp32", out="*fp32",
             strips="i32", bands="i32", N="i32")
TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def check(kernel, constants, warps, **types):
    known = {**TYPES, **types}
    signature = {name: "constexpr" if name in constants else known[name]
                 for name in kernel.arg_names}
    for architecture in (80, 90):
        target = GPUTarget("cuda", architecture, 32)
        source = ASTSource(kernel, signature, constexprs=constants)
        cubin = triton.compile(source, target=target, options={"num_warps": warps}).asm["cubin"]
        Path("kernel.cubin").write_bytes(cubin)
        used = subprocess.run([TOOL, "--dump-resource-usage", "kernel.cubin"],
                              capture_output=True, text=True, check=True).stdout
        print(kernel.__name__, architecture, constants, used, file=sys.stderr)
        assert "STACK:0 " in used  # no register is spilt


for C in (1, 3):
    group = 4 if C == 3 else 1
    check(kernels._sum_down, dict(C=C, BAND=kernels._BAND, STRIP=kernels._STRIP), 4)
    across = kernels._ACROSS // group
    check(kernels._scan_bands, dict(C=C, BAND=kernels._BAND, ACROSS=across, GROUP=group), 1)
    cells = dict(C=C, LARGEST=2**23, GROUP=group)
    patch = dict(cells, P=16, SIDE=16, ROWS=16)
    check(kernels._read, dict(patch, ROUNDING=None), 2 * group, out="*bf16")
    check(kernels._read, dict(patch, ROUNDING=0.5, mean=None, std=None), 2 * group)
check(kernels._read, dict(cells, P=7, SIDE=8, ROWS=8, ROUNDING=None), 2, out="*fp16")
"""


def run(code: str, folder: Path | None = None, **environment: str) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("triton", reason="torch's CPU wheels may come without triton")


def test_interpreted_tables_are_those_of_the_cpu_bit_for_bit() -> None:
    run(TABLES, TRITON_INTERPRET="1")


def test_interpreted_tables_wrap_around_as_those_of_the_cpu() -> None:
    run(WRAPPED, TRITON_INTERPRET="1")


def test_the_interpreted_kernel_reads_what_torch_reads() -> None:
    run(READ, TRITON_INTERPRET="1")


def test_the_interpreted_kernel_reads_nan_where_the_cpu_refuses() -> None:
    run(UNREADABLE, TRITON_INTERPRET="1")


def test_images_of_any_kind_reach_the_interpreted_kernels() -> None:
    run(PREPARED, TRITON_INTERPRET="1")


def test_the_kernels_compile_without_spilling_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    run(COMPILED, tmp_path, TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.parametrize("mode", ["exact", "nearest"])
def test_torch_reads_nan_too_where_the_cpu_refuses(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = extractor("integral/torch", 3, mode=mode).prepare(noise(40, 50))
    assert isinstance(scene, IntegralScene)
    assert_unreadable_is_nan(scene, scene._by_torch_unchecked)
    monkeypatch.setattr(integral, "LARGEST_CELL", LIMIT)
    assert_large_cells_are_nan(scene, scene._by_torch_unchecked)


@pytest.mark.parametrize("name", INTEGRAL)
def test_tokens_are_normalised_flattened_patches(name: str) -> None:
    scene, windows = extractor(name).prepare(noise(40, 50)), draw_windows(1, 12)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    tokens = scene.tokens(windows, mean, std)
    patches = scene.read(windows)
    for n in range(12):
        wanted = [(patches[0, n, c] - mean[c]) / std[c] for c in range(3)]
        torch.testing.assert_close(tokens[0, n], torch.stack(wanted).flatten())
    half = scene.tokens(windows, mean, std, torch.bfloat16)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), tokens, rtol=2**-8, atol=1e-6)
