"""Laws of the GPU's kernel: interpreted on the CPU, compiled for GPUs, run where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from oracle import INTEGRAL, draw_windows, extractor, noise

from fovea.interfaces import normalise

INTERPRETED = """
import torch
from oracle import draw_windows, extractor, noise
from fovea.extract.integral import IntegralScene
from fovea.interfaces import normalise

mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
images = [noise(50, 60), noise(9, 70), noise(1, 1)]
for mode, patch in (("exact", 1), ("exact", 3), ("nearest", 3), ("exact", 16)):
    windows = draw_windows(3, 3, seed=patch)
    plain = extractor("integral/torch", patch, mode=mode).prepare(images)
    fused = extractor("integral/triton", patch, mode=mode).prepare(images)
    assert fused.reader == "triton"
    tokens = fused.tokens(windows, mean, std)
    wanted = normalise(plain.read(windows), mean, std)
    torch.testing.assert_close(tokens, wanted, rtol=0, atol=1e-5)
found = fused.read(windows)
torch.testing.assert_close(found, plain.read(windows), rtol=0, atol=1e-6)
for shift in (2**31 - 1000, 2**31 - 150_000):
    shifted = ((fused.table.long() + shift + 2**31) % 2**32 - 2**31).int()
    assert (shifted < 0).any()
    fields = {name: getattr(fused, name) for name in fused.__dataclass_fields__}
    assert torch.equal(IntegralScene(**{**fields, "table": shifted}).read(windows), found)
grey = extractor("integral/triton", 4).prepare(noise(30, 20, 1))
slow = extractor("integral/torch", 4).prepare(noise(30, 20, 1))
windows = draw_windows(1, 9)
torch.testing.assert_close(grey.read(windows), slow.read(windows), rtol=0, atol=1e-6)
assert grey.read(windows[:, :0]).shape == (1, 0, 1, 4, 4)
"""

COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fovea.extract.triton_kernel import _read

types = dict(table="*i32", low="*fp64", high="*fp64", limit="*i64", first="*i64", fill="*fp32",
             mean="*fp32", std="*fp32", C="constexpr", P="constexpr", BLOCK="constexpr")
for architecture in (80, 90):
    for out in ("*fp32", "*bf16"):
        source = ASTSource(_read, {**types, "out": out}, constexprs={"C": 3, "P": 16, "BLOCK": 256})
        binary = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
        assert binary.asm["cubin"]
"""


def run(code: str, **environment: str) -> None:
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("triton", reason="torch's CPU wheels may come without triton")


def test_the_interpreted_kernel_reads_what_torch_reads() -> None:
    run(INTERPRETED, TRITON_INTERPRET="1")


def test_the_kernel_compiles_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    run(COMPILED, TRITON_CACHE_DIR=str(tmp_path))


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


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@gpu
@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["exact", "nearest"])
def test_a_gpu_reads_what_the_cpu_reads(mode: str) -> None:
    images = [noise(300, 500), noise(64, 64, seed=1), noise(64, 64, seed=2), noise(1, 7)]
    windows = draw_windows(4, 50)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    slow = extractor("integral/torch", 16, mode=mode).prepare(images)
    for reader in ("triton", "torch"):
        fast = extractor(f"integral/{reader}", 16, mode=mode).prepare(images, "cuda")
        assert torch.equal(fast.table.cpu(), slow.table)
        patches = fast.read(windows.cuda()).cpu()
        torch.testing.assert_close(patches, slow.read(windows), rtol=0, atol=1e-6)
        for dtype in (torch.float32, torch.bfloat16):
            tokens = fast.tokens(windows.cuda(), mean.cuda(), std.cuda(), dtype).cpu().float()
            wanted = normalise(slow.read(windows), mean, std)
            rounding = 2**-8 if dtype == torch.bfloat16 else 0
            torch.testing.assert_close(tokens, wanted, rtol=rounding, atol=1e-5)


@gpu
@pytest.mark.gpu
def test_a_gpu_reads_beyond_the_wrap() -> None:
    image = torch.full((3000, 3000, 1), 255, dtype=torch.uint8).numpy()
    image[2990:, 2990:] = noise(10, 10, 1)
    windows = torch.tensor([[[0.999, 0.999, 8.0], [0.5, 0.5, 0.0]]]).double()
    wanted = extractor("resize", 4).prepare(image).read(windows)
    for reader in ("triton", "torch"):
        found = extractor(f"integral/{reader}", 4).prepare(image, "cuda").read(windows.cuda())
        torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-5)
