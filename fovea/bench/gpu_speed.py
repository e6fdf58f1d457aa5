"""The benchmarks of extraction, inference and training on a device, in short."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from fovea.bench import extract_gpu, inference_gpu
from fovea.bench.device import device_clock, device_name, peak_of
from fovea.bench.gpu_networks import pictures
from fovea.bench.limits import NotMeasured, judge
from fovea.bench.limits_gpu import EXTRACTION_CUDA, INFERENCE_CUDA, STEPS_CUDA
from fovea.bench.names import COMPILED, DINO, MATMUL, OURS, OURS_LARGE, OURS_READY
from fovea.bench.parts import Finding, Setting
from fovea.bench.results import Training
from fovea.bench.tables import Table
from fovea.bench.timing import Effort, Task, interleave
from fovea.bench.train import matmul, matmul_flops, write_photos
from fovea.bench.train_profile import profile_tables
from fovea.bench.train_recipe import LARGE_BATCH, describe_recipe
from fovea.bench.train_report import changes_table, steps_table
from fovea.bench.train_step import Plan, image_flops, step_task

_SIDE = 448  # of the photographs that steps begin with
_BATCH = {True: 2, False: 256}  # by whether it is quick
_EFFORT = {True: Effort(2, 1, 0.0), False: Effort(30, 5, 0.7)}
_STEPS = {True: Effort(1, 1, 0.0), False: Effort(5, 4, 3.0)}
_NO_LIGHTLY = "lightly is not installed; pip install 'fovea-vit[bench]'"


def extraction(setting: Setting) -> Iterator[Finding]:
    """Measure tables and reading."""
    groups, effort = extract_gpu.groups(setting.quick), _EFFORT[setting.quick]
    run = extract_gpu.measure_groups(groups, pictures(setting), effort, setting.device)
    tables = tuple(extract_gpu.gpu_tables(run))
    yield Finding(goals=tuple(judge(EXTRACTION_CUDA, run)), tables=tables)


def inference(setting: Setting) -> Iterator[Finding]:
    """Measure 8 glimpses and a plain ViT: in bfloat16 at all sizes, in float32 at one."""
    all_of_it = inference_gpu.settings(setting.device, setting.quick, _EFFORT[setting.quick])
    reduced = replace(all_of_it, precisions=("bfloat16",), compiled=all_of_it.compiled[1:2])
    run = inference_gpu.measure_models(reduced, pictures(setting))
    goals, tables = judge(INFERENCE_CUDA, run), inference_gpu.gpu_inference_tables(run)
    yield Finding(goals=tuple(goals), tables=tuple(tables))
    whole = replace(all_of_it, precisions=("float32",), compiled=(), sides=all_of_it.sides[1:2])
    run = inference_gpu.measure_models(whole, pictures(setting))
    yield Finding(tables=tuple(inference_gpu.gpu_inference_tables(run)))


def steps(setting: Setting) -> Iterator[Finding]:
    """Measure our step and DINO's, with a profile of ours, and ours with the recipe's batch."""
    plan = _plan(setting)
    names = [OURS, OURS_READY, DINO] if find_spec("lightly") else [OURS, OURS_READY]
    missing = {} if find_spec("lightly") else {DINO: _NO_LIGHTLY}
    flops = image_flops(plan, [name for name in (OURS, DINO) if name in names])
    run = _measured(setting, plan, names, flops, missing)
    yield Finding(goals=tuple(judge(STEPS_CUDA, run)), tables=(_told(run),))
    yield Finding(tables=tuple(profile_tables(plan)))
    if not setting.quick:
        large = _measured(setting, plan, [OURS_LARGE], flops, {})
        yield Finding(tables=(_told(replace(large, batch=LARGE_BATCH)),))


def compiled_step(setting: Setting) -> Iterator[Finding]:
    """Measure our step compiled."""
    if setting.quick:
        raise NotMeasured("it takes minutes, and this is a quick run")
    run = _measured(setting, _plan(setting), [OURS, COMPILED], {}, {})
    yield Finding(tables=(changes_table(run),))


def _plan(setting: Setting) -> Plan:
    """Plan steps from photographs; with a batch of 1024, each is there several times."""
    batch = _BATCH[setting.quick]
    folder = Path(tempfile.mkdtemp(dir=setting.folder)) / "photos"
    write_photos(pictures(setting), _SIDE, batch if setting.quick else LARGE_BATCH, folder)
    return Plan(setting.device, folder, batch, 0, setting.threads, setting.quick)


def _measured(
    setting: Setting,
    plan: Plan,
    names: Sequence[str],
    flops: dict[str, int],
    missing: dict[str, str],
) -> Training:
    """Measure steps, which take turns, and the memory of each; note those that do not fit."""
    missing, memory = dict(missing), {}
    tasks: dict[str, Task] = {MATMUL: matmul(plan)}
    for name in names:
        try:
            task = step_task(name, plan)
            memory[name] = peak_of(partial(_twice, task), plan.device)
        except torch.OutOfMemoryError:
            missing[name] = "out of memory"
        else:
            tasks[name] = task
    seconds = interleave(tasks, _STEPS[setting.quick], device_clock(plan.device))
    recipe = plan.recipe()
    return Training(
        device=device_name(plan.device),
        recipe=describe_recipe(recipe),
        batch=plan.batch,
        large_batch=LARGE_BATCH,
        workers=0,
        threads=plan.threads,
        precision=recipe.precision,
        flops=flops,
        matmul_flops=matmul_flops(plan.device),
        steps=seconds,
        files=(),
        pipeline={},
        memory={name: most for name, most in memory.items() if most},
        missing=missing,
        photos=(),
    )


def _told(run: Training) -> Table:
    """Compare the steps, and say which could not be measured."""
    table = steps_table(run)
    left_out = [f"Not measured: {name}: {why}." for name, why in run.missing.items()]
    return replace(table, note="\n".join([table.note, *left_out]))


def _twice(task: Task) -> None:
    """Make two steps: the optimiser makes its averages in the first."""
    task(0)
    task(1)
