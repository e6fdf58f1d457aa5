"""Laws of what checks and measures a GPU: a part that fails, dies or hangs stops no other."""

import ast
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from parts_to_run import dying, good, hanging, impossible, missing_one, raising
from PIL import Image

from fovea.bench import command, extract_gpu, gpu, inference_gpu
from fovea.bench.__main__ import NEEDED
from fovea.bench.extract_gpu import Group
from fovea.bench.gpu_kernels import kernels, within
from fovea.bench.limits import Verdict, judge
from fovea.bench.limits_gpu import EXTRACTION_CUDA, INFERENCE_CUDA, STEPS_CUDA
from fovea.bench.looks import look_at
from fovea.bench.names import (
    BARE,
    BUILD,
    COMPILED_GLIMPSES,
    COMPILED_PLAIN,
    COPY,
    DINO,
    GLIMPSE,
    GLIMPSES,
    MATMUL,
    OURS,
    OURS_LARGE,
    PLAIN,
    READ,
    TOKENS,
)
from fovea.bench.parts import Finding, Outcome, Part, Setting, run_parts
from fovea.bench.photos import read_photos
from fovea.bench.results import (
    GpuExtraction,
    GpuImages,
    GpuInference,
    GpuPoint,
    Training,
    at_side,
)
from fovea.bench.timing import Effort
from fovea.bench.train_profile import busy
from fovea.bench.train_report import steps_table

ROOT = Path(__file__).parents[2]
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", quick=True, folder=tmp_path, photos=None, threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        large = pixels.repeat(6, axis=0).repeat(6, axis=1)
        Image.fromarray(large).save(folder / f"{i}.jpg", quality=90)
    return folder


def run(works: list[Callable[..., Iterator[Finding]]], setting: Setting, **limits: float) -> dict:
    parts = [Part(work.__name__, work, limits.get(work.__name__, 60)) for work in works]
    outcomes: list[Outcome] = []
    run_parts(parts, setting, limits.get("whole", 120), outcomes.append)
    return {one.name: one for one in outcomes}


def test_a_part_that_fails_dies_or_hangs_stops_no_other(setting: Setting) -> None:
    works = [missing_one, raising, dying, hanging, impossible, good]
    found = run(works, setting, hanging=10)
    results = {name: outcome.result for name, outcome in found.items()}
    assert results == {
        "missing_one": "FAILED: one: 2.00, asked for <= 1.00; third: nan, asked for <= 1.00",
        "raising": "FAILED: ValueError: a sentence",
        "dying": "FAILED: its process ended with exit code 3",
        "hanging": "FAILED: it had not ended after 10 s",
        "impossible": "not measured: there is no such thing",
        "good": "ok",
    }
    for name in ("raising", "dying", "hanging"):  # what was found before is kept
        assert found[name].findings[0].checks[0].name == "a difference"
    assert "before the error" in found["raising"].printed
    child = Path(f"/proc/{(setting.folder / 'child').read_text()}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_parts_for_which_no_time_is_left_are_not_measured(setting: Setting) -> None:
    found = run([good], setting, whole=0)
    assert found["good"].result == "not measured: no time was left"


def test_a_page_of_nothing_says_so_in_each_row() -> None:
    parts, goals = gpu.page_tables(gpu.Run({}), quick=False)
    assert [row[2] for row in parts.rows[1:]] == ["not yet measured"] * len(gpu.PARTS)
    assert [row[2] for row in goals.rows[1:]] == ["not yet measured"] * len(gpu.Run({}).goals)


def test_the_committed_page_has_all_parts_and_goals() -> None:
    page = (ROOT / "docs/benchmarks/gpu.md").read_text()
    for part in gpu.PARTS:
        assert f"| {part.name} |" in page
    for goal in gpu.Run({}).goals:
        assert f"| {goal.name} | {goal.sign} {goal.value:g} |" in page


def test_a_run_shows_checks_goals_and_tables_and_fails_by_its_parts() -> None:
    goal = Verdict(EXTRACTION_CUDA[0].name, ">=", 0.5, 0.25)
    finding = Finding(checks=(within("a difference", 2.0, 1.0),), goals=(goal,))
    outcomes = {
        "kernels": Outcome("kernels", 1.0, "FAILED: a | b", (finding,)),
        "steps": Outcome("steps", 2.0, "ok"),
    }
    parts, goals, checks = gpu.page_tables(gpu.Run(outcomes), quick=False)
    assert parts.rows[1] == ["kernels", "1", "FAILED: a / b"]
    assert goals.rows[1][2:] == ["0.25", "MISSED"]
    assert checks.rows[1] == ["a difference", "2", "1", "MISSED"]
    assert gpu.Run(outcomes).failed == ["kernels"]
    quick = gpu.page_tables(gpu.Run(outcomes), quick=True)  # whose times mean nothing
    assert [table.title for table in quick] == ["Parts", "Checks"]


def test_the_cpu_keeps_what_a_gpu_is_held_to(setting: Setting) -> None:
    checks = [check for finding in kernels(setting) for check in finding.checks]
    assert len(checks) >= 10
    assert all(check.holds for check in checks)


def extraction(**seconds: float) -> GpuExtraction:
    """Measure, as it were, times that hold every goal."""
    usual = {COPY: 1.0, BUILD: 1.5e-3, READ: 1e-4, "grid_sample": 2e-4}
    groups = {}
    for role in ("many", "mixed", "one", "large"):
        tasks = {**usual, COPY: 1e-3}
        if role in seconds:
            tasks |= {BUILD: seconds[role], READ: seconds[role]}
        groups[role] = GpuImages(role, ((8, 8),), {name: [one] for name, one in tasks.items()})
    return GpuExtraction("a GPU", "integral", groups, ())


def inference(batch: int = 0, **seconds: float) -> GpuInference:
    sides = (224, 448)
    points = []
    for one in (1, 32):
        tasks = {BARE: 1e-3}
        for side in sides:
            tasks |= {at_side(GLIMPSES, side): 9e-3, at_side(COMPILED_GLIMPSES, side): 2e-3}
            tasks |= {at_side(PLAIN, side): 5e-3, at_side(COMPILED_PLAIN, side): 3e-3}
        changed = seconds if one == batch else {}
        tasks |= {name.replace("_", " "): value for name, value in changed.items()}
        points.append(GpuPoint(one, "bfloat16", {name: [time] for name, time in tasks.items()}))
    return GpuInference("a GPU", sides, tuple(points), {}, ())


def training(ours: float = 1.0, dino: float = 1.2) -> Training:
    return Training(
        device="a GPU",
        recipe="a ViT",
        batch=4,
        large_batch=16,
        workers=0,
        threads=1,
        precision="bfloat16",
        flops={OURS: 1100, DINO: 1000},
        matmul_flops=10_000,
        steps={OURS: [ours], OURS_LARGE: [4 * ours], DINO: [dino], MATMUL: [1.0]},
        files=(),
        pipeline={},
        memory={},
        missing={},
        photos=(),
    )


def test_goals_hold_where_everything_is_fast() -> None:
    for limits, results in (
        (EXTRACTION_CUDA, extraction()),
        (INFERENCE_CUDA, inference()),
        (STEPS_CUDA, training()),
    ):
        assert [one.name for one in judge(limits, results) if not one.holds] == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "results", "name"),
    [
        (EXTRACTION_CUDA, extraction(mixed=2.1e-3), "tables / copy bandwidth, 1024 mixed sizes"),
        (EXTRACTION_CUDA, extraction(large=3.1e-3), "table of one image of 7168 px, ms"),
        (EXTRACTION_CUDA, extraction(many=2.5e-4), "grid_sample / exact reading, 1024 images"),
        (EXTRACTION_CUDA, extraction(one=1.6e-4), "exact reading of one image, ms"),
        (
            INFERENCE_CUDA,
            inference(1, **{"8_glimpses,_compiled,_224_px": 3.1e-3}),
            "8 glimpses of a ViT-S, 1 image, bfloat16, ms",
        ),
        (
            INFERENCE_CUDA,
            inference(32, **{"plain_ViT-S,_compiled,_448_px": 1.9e-3}),
            "plain ViT-S / 8 glimpses, batch 32, from 448 px",
        ),
        (STEPS_CUDA, training(ours=1.2, dino=1.4), "FLOP/s of our step / matrix product"),
        (STEPS_CUDA, training(dino=1.05), "step: img/s x FLOPs, ours / DINO"),
    ],
)
def test_a_goal_is_missed_by_a_single_number(limits, results, name: str) -> None:
    assert [one.name for one in judge(limits, results) if not one.holds] == [name]


def test_what_is_not_installed_was_not_measured() -> None:
    run = training()
    steps = {name: times for name, times in run.steps.items() if name != DINO}
    lacking = replace(run, steps=steps, missing={DINO: "lightly is not installed"})
    [verdict] = [one for one in judge(STEPS_CUDA, lacking) if one.measured is None]
    assert verdict.reason == "lightly is not installed"
    assert len(steps_table(lacking).rows) == 1 + 2 + 1


def test_a_larger_batch_counts_all_its_images() -> None:
    run = training()
    assert run.utilisation(OURS_LARGE) == pytest.approx(run.utilisation(OURS))
    speeds = [run.at_equal_flops(run.steps, name) for name in (OURS, OURS_LARGE)]
    assert speeds[0] == pytest.approx(speeds[1])


def test_what_is_timed_on_a_gpu_reads_alike(photos: Path) -> None:
    one = extract_gpu.gpu_tasks(read_photos(photos), square(1), torch.device("cpu"))
    several = extract_gpu.gpu_tasks(read_photos(photos), square(3), torch.device("cpu"))
    mixed = Group("mixed", ((300, 448), (448, 448), (80, 90)))
    others = extract_gpu.gpu_tasks(read_photos(photos), mixed, torch.device("cpu"))
    assert set(one) - set(several) == {"interpolate area", "interpolate antialias"}
    assert set(several) - set(others) == {"float tensor", "grid_sample", "roi_align"}
    for tasks, B in ((one, 1), (several, 3), (others, 3)):
        patches = tasks[GLIMPSE](0)
        assert patches.shape == (B, 30, 3, 16, 16)
        assert torch.equal(tasks[READ](0), patches)
        assert tasks[TOKENS](0).shape == (B, 30, 3 * 16 * 16)
        for name in set(tasks) & {"grid_sample", "roi_align", "interpolate area"}:
            assert tasks[name](0).shape == (B * 30, 3, 16, 16), name
    inside = look_at(_gaze(), 448).inside
    error = (several["roi_align"](0)[:30] - several[GLIMPSE](0)[0])[inside]
    assert error.square().mean().sqrt() < 2 / 255


def square(images: int) -> Group:
    return Group(f"{images} x 448 px", ((448, 448),) * images)


def _gaze() -> torch.Tensor:
    """Draw the first gaze that the tasks of a GPU draw."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 2, dtype=torch.float64, generator=generator)


def test_models_are_measured_at_each_batch_and_size(photos: Path) -> None:
    settings = inference_gpu.settings("cpu", quick=True, effort=Effort(1, 1, 0.0))
    run = inference_gpu.measure_models(settings, read_photos(photos))
    assert [point.batch for point in run.points] == [1, 2]
    for point in run.points:
        expected = {at_side(name, side) for name in (GLIMPSES, PLAIN) for side in settings.sides}
        assert expected < set(point.seconds)
    [table] = inference_gpu.gpu_inference_tables(run)
    assert len({len(row) for row in table.rows}) == 1


def test_busy_time_counts_what_overlaps_once() -> None:
    assert busy([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4


@NO_GPU
@pytest.mark.parametrize("name", ["extract", "inference", "train", "gpu"])
def test_without_a_gpu_each_command_says_so_in_a_sentence(
    name: str, tmp_path: Path, capsys
) -> None:
    words = [] if name == "gpu" else ["--device", "cuda"]
    assert command.main([name, *words, "--out", str(tmp_path)]) == 2
    said = "fovea: --device cuda: torch finds no CUDA device on this machine\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


def test_a_rehearsal_on_a_cpu_is_quick(capsys) -> None:
    assert command.main(["gpu", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.endswith("a GPU is for: add --quick\n")


def test_what_is_not_installed_is_told_with_its_cure(monkeypatch, capsys) -> None:
    found = util.find_spec
    lacking = {"tqdm", "yaml"}

    def find(name: str) -> ModuleSpec | None:
        return None if name in lacking else found(name)

    monkeypatch.setattr(util, "find_spec", find)
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "fovea/bench/__main__.py"), run_name="__main__")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "fovea: not installed: pip install pyyaml tqdm\n"


def test_all_that_fovea_depends_on_is_looked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {one.replace("!", ">").partition(">")[0].strip() for one in project["dependencies"]}
    assert set(NEEDED) == names


def test_a_checkout_that_is_not_installed_can_be_measured(tmp_path: Path) -> None:
    """Its entry points are not there, and its components must be."""
    code = (
        "import importlib.metadata as metadata; metadata.entry_points = lambda **_: ();"
        "from fovea import registry; print(registry.names('patch_extractor'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "integral" in ast.literal_eval(done.stdout), done.stderr
