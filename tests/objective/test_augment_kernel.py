"""Laws of the kernels: interpreted on the CPU, compiled for GPUs, run where there is one."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from fovea.objective.augment import augment, draw_changes
from fovea.objective.changes import Changes, Colour, blur_matrix, change, hue_matrix
from fovea.objective.config import AugmentConfig

STRONG = AugmentConfig(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5, grayscale=0.3)


def noise(R: int, N: int, C: int, P: int, device: str = "cpu") -> torch.Tensor:
    patches = torch.rand(R, N, C, P, P, generator=torch.Generator().manual_seed(P))
    return patches.to(device)


def drawn(R: int, C: int, P: int, seed: int, blur: float = 0.5, solarize: float = 0.5) -> Changes:
    generator = torch.Generator().manual_seed(seed)
    return draw_changes(R, C, P, STRONG, blur, solarize, generator)


def extremes(C: int, P: int) -> Changes:
    """Combine the least and the greatest of every change: R = 2**7 views."""
    grid = list(product(*3 * ((0.0, 1.999),), *4 * ((0.0, 1.0),)))
    brightness, contrast, saturation, *rest = torch.tensor(grid).unbind(1)
    flipped, grey, where, solarized = (column.bool() for column in rest)
    R = len(grid)
    turn = torch.linspace(-0.5, 0.5, R)
    turn[::3] = 0
    sigma = torch.linspace(0.1, 2.0, R) * P / 16
    colour = Colour(saturation, hue_matrix(turn), grey) if C == 3 else None
    return Changes(flipped, brightness, contrast, colour, blur_matrix(sigma, where, P), solarized)


def neutral(R: int, C: int, P: int) -> Changes:
    one, never = torch.ones(R), torch.zeros(R, dtype=torch.bool)
    colour = Colour(one, hue_matrix(0 * one), never) if C == 3 else None
    return Changes(never, one, one, colour, blur_matrix(one, never, P), never)


def compare_interpreted() -> None:
    """Hold the kernels against torch; runs in a process of its own that interprets Triton."""
    from fovea.objective import augment_kernel

    def compare(patches: torch.Tensor, changes: Changes) -> None:
        before = patches.clone()
        found = augment_kernel.change(patches, changes)
        torch.testing.assert_close(found, change(patches, changes), rtol=0, atol=1e-6)
        assert torch.equal(patches, before)

    for C, P in product((1, 3), (4, 5, 8, 16)):
        for R, N in ((1, 1), (3, 2)):
            patches = noise(R, N, C, P)
            compare(patches, drawn(R, C, P, seed=N))
            compare(patches, drawn(R, C, P, seed=N, blur=0.0, solarize=0.0))
            nothing = neutral(R, C, P)
            assert torch.equal(augment_kernel.change(patches, nothing), patches)
            mirrored = replace(nothing, flipped=torch.ones(R, dtype=torch.bool))
            assert torch.equal(augment_kernel.change(patches, mirrored), patches.flip(-1))
    worst = extremes(3, 5)
    compare(noise(len(worst.flipped), 1, 3, 5), worst)
    compare(noise(2, 2, 4, 4), drawn(2, 4, 4, seed=0))  # neither grey nor colour
    expanded = noise(1, 3, 3, 4).expand(4, -1, -1, -1, -1)
    compare(expanded, drawn(4, 3, 4, seed=1))
    assert augment_kernel.change(patches[:, :0], nothing).shape == (3, 0, 3, 16, 16)
    patches[0, 0, 0, 0, 0] = torch.nan
    assert augment_kernel.change(patches, nothing)[0, 0, 0, 0].isnan().any()


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fovea.objective.augment_kernel import _change, _measure

f, b = "*fp32", "*i1"
measured = dict(patches=f, brightness=f, out=f, N="i32")
views = dict(patches=f, out=f, flipped=b, brightness=f, contrast=f, mean=f)
colour = dict(saturation=f, hue=f, grey=b)
soft = dict(blur=f, solarized=b)
none = dict.fromkeys([*colour, *soft])
cases = []
for C, P in ((1, 4), (3, 5), (3, 16)):
    cases.append((_measure, measured, dict(C=C, P=P, BLOCK=triton.next_power_of_2(P * P))))
    known = {**views, **(colour if C == 3 else {}), "N": "i32"}
    cases.append((_change, {**known, **soft}, dict(C=C, P=P, SIDE=16)))
    cases.append((_change, known, dict(C=C, P=P, SIDE=triton.next_power_of_2(P))))
for architecture in (80, 90):
    for kernel, known, constants in cases:
        absent = {name: None for name in kernel.arg_names if name not in {**known, **constants}}
        constants = {**absent, **constants}
        types = {name: known.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, types, constexprs=constants)
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


def test_the_interpreted_kernels_change_what_torch_changes() -> None:
    code = "import test_augment_kernel; test_augment_kernel.compare_interpreted()"
    run(code, TRITON_INTERPRET="1")


def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path: Path) -> None:
    run(COMPILED, TRITON_CACHE_DIR=str(tmp_path))


def on(device: str, changes: Changes) -> Changes:
    colour, blur, solarized = changes.colour, changes.blur, changes.solarized
    if colour is not None:
        colour = Colour(*(one.to(device) for one in vars(colour).values()))
    simple = [one.to(device) for one in (changes.flipped, changes.brightness, changes.contrast)]
    blur, solarized = (None if one is None else one.to(device) for one in (blur, solarized))
    return Changes(*simple, colour, blur, solarized)


@pytest.mark.gpu
@pytest.mark.parametrize(("C", "P"), [(1, 4), (3, 5), (3, 8), (3, 16), (4, 16), (3, 32)])
def test_a_gpu_changes_what_the_cpu_changes(C: int, P: int) -> None:
    from fovea.objective import augment_kernel

    worst = extremes(C, P)
    for changes in (worst, *(drawn(6, C, P, seed, seed % 2, 0.5) for seed in range(4))):
        patches = noise(len(changes.flipped), 9, C, P)
        wanted = change(patches, changes)
        for way in (augment_kernel.change, change):
            found = way(patches.cuda(), on("cuda", changes)).cpu()
            torch.testing.assert_close(found, wanted, rtol=0, atol=5e-6)


@pytest.mark.gpu
def test_a_gpu_draws_and_augments_by_the_kernels_without_waiting() -> None:
    from fovea.objective import augment_kernel

    patches, generator = noise(8, 4, 3, 16, "cuda"), torch.Generator("cuda").manual_seed(0)
    windows = torch.rand(8, 4, 3, dtype=torch.float64, device="cuda")
    settings = (STRONG, 0.5, 0.5, generator)
    wanted = augment_kernel.change(patches, draw_changes(8, 3, 16, *settings))  # and compiles
    generator.manual_seed(0)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found, _ = augment(patches, windows, *settings)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    assert torch.equal(found, wanted)


@pytest.mark.gpu
def test_a_gpu_keeps_the_gradient_where_patches_want_one() -> None:
    patches = noise(2, 2, 3, 8, "cuda").requires_grad_()
    windows = torch.rand(2, 2, 3, dtype=torch.float64, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    augment(patches, windows, STRONG, 0.5, 0.0, generator)[0].sum().backward()
    assert patches.grad is not None
