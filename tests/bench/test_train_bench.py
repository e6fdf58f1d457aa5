"""Laws of the benchmark of training: what is compared is the same work, and all time is told."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fovea.bench import command, train
from fovea.bench.limits import TRAINING, judge
from fovea.bench.names import (
    BACKWARD,
    COMPILED,
    DATA,
    DINO,
    LOSS,
    MATMUL,
    OTHER,
    OURS,
    OURS_FULL,
    OURS_READY,
    STUDENT,
    TEACHER,
    UPDATE,
)
from fovea.bench.photos import read_photos
from fovea.bench.results import Files, Training
from fovea.bench.train_changes import changes, each_pair
from fovea.bench.train_dino import Crops, DinoTraining
from fovea.bench.train_loop import Loop, Seconds
from fovea.bench.train_memory import peak_memory
from fovea.bench.train_ours import OurTraining
from fovea.bench.train_packed import see_at_once
from fovea.bench.train_report import training_tables
from fovea.bench.train_split import Split, WallClock
from fovea.bench.train_step import Plan, image_flops
from fovea.decoding import read_image
from fovea.objective.losses import cross_entropy
from fovea.objective.views import View


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "photos"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        large = pixels.repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray(large).save(folder / f"{i}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def plan(photos: Path) -> Plan:
    return Plan("cpu", photos, batch=3, workers=0, threads=1, quick=True)


class Ticks:
    """A clock that goes on by one with each mark."""

    def __init__(self) -> None:
        self.now = 0

    def mark(self) -> int:
        self.now += 1
        return self.now

    def seconds(self, start: int, end: int) -> float:
        return end - start


def test_each_moment_belongs_to_one_part_and_all_add_up_to_the_whole() -> None:
    split = Split(Ticks())
    split.start()  # 1
    with split.part("outer"):  # 2
        with split.part("inner"):  # 3
            split.clock.mark()  # 4
        with split.part("inner"):  # 6, from 5 on outer again
            pass  # 7
    assert split.stop() == {OTHER: 1 + 1, "outer": 1 + 1 + 1, "inner": 2 + 1}  # 1..9


class TwoNetworks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Linear(3, 3).requires_grad_(False)
        self.student = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        difference: Tensor = self.teacher(inputs) - self.student(inputs)
        return difference.square().sum()


def test_parts_of_a_step_follow_each_other_as_they_are_computed() -> None:
    networks = TwoNetworks()
    split = Split(WallClock())
    split.watch(networks, networks.teacher, networks.student)
    for _ in range(2):  # the second like the first
        split.start()
        with split.step():
            networks(torch.ones(2, 3)).backward()
        parts = [part for part, _ in split.marks]
        inside = [LOSS, TEACHER, LOSS, STUDENT, LOSS, OTHER, BACKWARD, OTHER, UPDATE, OTHER]
        assert parts == [OTHER, *inside]
        assert split.parts == [OTHER]


class Countdown(Iterator[int]):
    closed = 0

    def __next__(self) -> int:
        time.sleep(0.01)
        return 0

    def close(self) -> None:
        Countdown.closed += 1


def test_a_loop_tells_the_time_of_a_step_and_where_it_went_and_ends_its_workers() -> None:
    before = Countdown.closed
    seconds, split = Seconds(), Split(WallClock())

    def step(index: int, batch: int) -> None:
        with split.part("work"):
            time.sleep(0.02)
        time.sleep(0.005)

    loop = Loop(Countdown, step, split, 5, seconds)
    loop(0)
    loop(1)
    assert Countdown.closed - before == 2
    assert seconds.passed / 2 >= 0.035
    for parts in loop.splits:
        assert parts[DATA] >= 0.01
        assert parts["work"] >= 0.02
        assert parts[OTHER] >= 0.005
    told = sum(sum(parts.values()) for parts in loop.splits)
    assert told == pytest.approx(seconds.passed, rel=0.02)


def test_cross_entropy_of_each_pair_is_that_of_the_library() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(2, 3, 12, generator=generator).softmax(-1)
    gradients = []
    values = []
    for function in (cross_entropy, each_pair):
        outputs = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
        prototypes = torch.randn(12, 4, generator=torch.Generator().manual_seed(2))
        outputs.requires_grad_()
        losses, prediction = function(outputs, prototypes, targets, 0.1)
        losses.mean().backward()
        values.append((losses.detach(), prediction))
        gradients.append(outputs.grad)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", [n for n in changes("cpu") if "compile" not in n])
def test_a_change_leaves_the_weights_that_a_step_makes(name: str, plan: Plan) -> None:
    after = []
    for change in (changes("cpu")["local views one by one"], changes("cpu")[name]):
        ours = OurTraining(plan.recipe(("seed=1", *change.settings)))
        change.alter(ours)
        batch = ours.batch()
        with change.within():
            ours.step(500_000, batch)  # in mid-training the learning rate is large
        after.append(torch.cat([one.flatten() for one in ours.objective.student.parameters()]))
    start = OurTraining(plan.recipe(("seed=1",))).objective.student.parameters()
    moved = (after[0] - torch.cat([one.detach().flatten() for one in start])).norm()
    assert moved > 0.1
    tolerance = 0.5 if name.startswith("precision") else 0.02  # signs of tiny gradients turn
    assert (after[1] - after[0]).norm() < tolerance * moved


def test_local_views_one_by_one_are_seen_alike_and_apart(plan: Plan) -> None:
    ours = OurTraining(plan.recipe())
    student, rows = ours.objective.student, plan.batch * 8
    patches, windows = torch.rand(rows, 5, 3, 16, 16), torch.rand(rows, 5, 3)
    expected = student(patches, windows, student.initial_state(rows))
    seen: list[int] = []
    student.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    changes("cpu")["local views one by one"].alter(ours)
    found = student(patches, windows, student.initial_state(rows))
    assert seen == [plan.batch] * 8
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_views_in_one_pass_are_seen_as_one_by_one(drop_path: float, plan: Plan) -> None:
    ours = OurTraining(plan.recipe((f"model.backbone.drop_path={drop_path}",)))
    student = ours.objective.student.train(drop_path == 0)
    views = [View(torch.rand(R, N, 3, 16, 16), torch.rand(R, N, 3)) for R, N in ((3, 5), (6, 2))]
    wanted = [student(one.patches, one.windows, student.initial_state(len(one.patches)))
              for one in views]  # fmt: skip
    torch.testing.assert_close(see_at_once(student, views), wanted)
    weights = list(student.parameters())
    gradients = [
        torch.autograd.grad(sum(one[:, 0].square().sum() for one in seen), weights)
        for seen in (see_at_once(student, views), wanted)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_views_that_are_ready_are_those_of_the_batch_and_are_read_once(plan: Plan) -> None:
    ours = OurTraining(plan.recipe())
    batch = ours.batch()
    ours.draw_beforehand(batch)
    views = ours.objective.views
    scene = ours.extractor.prepare([], "cpu")  # whatever is asked for
    assert len(scene) == plan.batch
    generator = torch.Generator()
    first, again = (views.globe(scene, generator, teacher=True) for _ in range(2))
    assert first.patches is again.patches
    assert first.patches.shape == (plan.batch, 14 * 14, 3, 16, 16)
    assert views.locals(scene, generator).patches.shape == (plan.batch * 8, 6 * 6, 3, 16, 16)
    sequence = views.sequence(scene, generator)
    assert [len(one.patches) for one in sequence] == [plan.batch] * 8


@pytest.mark.parametrize(
    ("device", "quick", "width", "depth", "giga"),
    [("cpu", True, 192, 1, {}), ("cuda", False, 384, 12, {OURS: 140, DINO: 114})],
)
def test_flops_are_those_of_the_matrix_products_of_the_recipe_that_is_timed_written_out(
    photos: Path, device: str, quick: bool, width: int, depth: int, giga: dict[str, int]
) -> None:
    plan = Plan(device, photos, batch=3, workers=0, threads=1, quick=quick)
    sizes = plan.recipe().pretrain.objective.settings.head
    assert sizes.prototypes == (4096 if quick else 65536)
    hidden, bottleneck, prototypes = sizes.hidden, sizes.bottleneck, sizes.prototypes
    head = hidden * (width + hidden) + hidden * bottleneck + bottleneck * prototypes

    def block(tokens: int) -> int:
        return depth * (12 * tokens * width**2 + 2 * tokens**2 * width)

    pixels = 16 * 16 * 3 * width
    globe, local = 14 * 14, 6 * 6
    dino_globe = block(globe + 1) + globe * pixels
    dino_local = block(local + 1) + local * pixels
    # a backward pass is two forward passes, less the pixels' gradient
    student = 3 * (2 * dino_globe + 8 * dino_local) - (2 * globe + 8 * local) * pixels
    dino = student + 2 * dino_globe + (2 + 3 * 10) * head

    def seen(patches: int) -> int:
        return block(patches + 8) + patches * (pixels + 3 * width + width**2)

    teacher = seen(globe) + 8 * seen(30)
    student = 3 * (seen(globe) + 8 * seen(local) + 8 * seen(30))
    student -= (globe + 8 * local + 8 * 30) * (pixels + 3 * width)
    ours = teacher + student + (2 + 3 * 17) * head
    counted = image_flops(plan)
    assert counted[DINO] == pytest.approx(2 * dino, rel=0.005)
    assert counted[OURS] == pytest.approx(2 * ours, rel=0.005)
    for name, number in giga.items():
        assert counted[name] == pytest.approx(1e9 * number, rel=0.005)


def test_dino_has_the_crops_of_its_paper_and_learns(plan: Plan) -> None:
    dino = DinoTraining(plan.recipe(), torch.device("cpu"))
    assert dino.networks.sides == (224, 96)
    views = next(dino.batches())
    ready = dino.ready()
    assert [one.shape for one in views] == [one.shape for one in ready]
    assert [one.shape[-1] for one in views] == [224] * 2 + [96] * 8
    student = [one.clone() for one in dino.networks.student.parameters()]
    teacher = [one.clone() for one in dino.networks.teacher.parameters()]
    dino.step(views)
    pairs = zip(student, dino.networks.student.parameters(), strict=True)
    assert all(not torch.equal(before, after) for before, after in pairs)
    averages = zip(teacher, dino.networks.teacher.parameters(), student, strict=True)
    now = list(dino.networks.student.parameters())
    for (before, after, start), trained in zip(averages, now, strict=True):
        assert torch.equal(before, start)
        torch.testing.assert_close(after, 0.996 * before + 0.004 * trained, rtol=1e-4, atol=1e-6)


def test_dinos_crops_are_whole_pictures_at_scale_1(photos: Path) -> None:
    crops = Crops(sorted(photos.glob("*.jpg")), 224, 96, 2)
    views = crops[0]
    assert [one.shape for one in views] == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 2


def holding(side: int = 1536) -> Training:
    """Measure, as it were, times that hold every limit."""
    steps = {OURS: 1.1, OURS_READY: 1.0, DINO: 0.9, MATMUL: 0.1, "some change": 2.2}
    ours = {DATA: 0.01, BACKWARD: 0.98, OTHER: 0.01}
    dino = {DATA: 0.5, BACKWARD: 0.9, OTHER: 0.0}
    files = Files(
        side,
        {OURS: [1.0], DINO: [1.4], OURS_FULL: [1.5]},
        {OURS: [ours], DINO: [dino], OURS_FULL: [ours]},
    )
    return Training(
        device="cpu",
        recipe="a ViT",
        batch=4,
        large_batch=8,
        workers=2,
        threads=2,
        precision="float32",
        flops={OURS: 1200, DINO: 1000},
        matmul_flops=1000,
        steps={name: [seconds] for name, seconds in steps.items()},
        files=(files,),
        pipeline={"decoding": [0.01]},
        memory={OURS: 10**9, "some change": 2 * 10**9},
        missing={},
        photos=("0.jpg",),
    )


def missed(run: Training) -> list[str]:
    return [one.name for one in judge(TRAINING, run) if not one.holds]


def test_limits_hold_where_everything_is_fast() -> None:
    assert missed(holding()) == []


def with_split(**parts: float) -> Training:
    """Replace where the time of our step went; what is not given is the backward pass."""
    run = holding()
    [files] = run.files
    told = {DATA: parts.get("data", 0.0), OTHER: parts.get("other", 0.0)}
    told[BACKWARD] = 1 - sum(told.values())
    return replace(run, files=(replace(files, splits={**files.splits, OURS: [told]}),))


def test_a_limit_is_missed_by_a_single_number() -> None:
    run = holding()
    [files] = run.files
    slow = replace(files, side=2048, seconds={**files.seconds, OURS: [1.3]})
    slow = replace(slow, splits={**files.splits, OURS: [{BACKWARD: 1.3, OTHER: 0.0}]})
    assert missed(replace(run, steps={**run.steps, DINO: [0.83]}))[0].startswith("step")
    assert missed(replace(run, files=(files, slow)))[0].startswith("from JPEG files")
    assert missed(with_split(data=0.06))[0].startswith("waiting for data")
    assert missed(with_split(other=0.03))[0].startswith("time in no named part")


def test_speed_counts_per_flop() -> None:
    run = holding()
    assert run.at_equal_flops(run.steps, OURS) == pytest.approx(0.9 / 1.1 * 1.2)
    assert run.utilisation(OURS) == pytest.approx(4 * 1200 / 1.1 / (1000 / 0.1))
    assert run.utilisation(DINO) == pytest.approx(4 * 1000 / 0.9 / (1000 / 0.1))


def test_the_report_shows_every_change_and_every_part() -> None:
    text = "\n".join(table.text() for table in training_tables(holding()))
    assert "some change" in text
    assert "2.00" in text
    assert f"{BACKWARD}" in text


def test_photographs_are_written_at_the_size_asked_for(photos: Path, tmp_path: Path) -> None:
    train.write_photos(read_photos(photos), 500, 6, tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 6
    assert {tuple(read_image(file).shape) for file in files} == {(500, 500, 3)}
    assert files[0].read_bytes() == files[4].read_bytes()  # there are four photographs
    assert len({file.read_bytes() for file in files}) == 4


def test_memory_counts_more_than_the_weights_and_grows_with_the_batch(plan: Plan) -> None:
    small = peak_memory(OURS, replace(plan, batch=2))
    large = peak_memory(OURS, replace(plan, batch=4))
    ours = OurTraining(plan.recipe())
    trained = sum(one.nbytes for one in ours.objective.student.parameters())
    assert isinstance(small, int)
    assert isinstance(large, int)
    assert small > 4 * trained  # with teacher and averages
    assert large - small > 2 * 10**7


def test_without_a_compiler_the_reason_is_told_in_a_line(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    reason = peak_memory(COMPILED, plan)
    assert isinstance(reason, str)
    assert "/nowhere/c++" in reason
    assert "\n" not in reason


def test_without_lightly_the_cure_is_told(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    assert command.main(["train", "--out", str(tmp_path)]) == 2
    assert "pip install 'fovea-vit[bench]'" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from fovea.bench.command import main\n"
        "try: main(['train', '--help'])\n"
        "finally: assert not {'torch', 'numpy', 'lightly', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_quick_run_prints_its_tables_and_leaves_three_files(photos: Path, tmp_path: Path) -> None:
    words = ["train", "--quick", "--workers", "1", "--photos", str(photos), "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "fovea.bench", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {
        f"training.{e}" for e in ("md", "png", "json")
    }
    tree = json.loads((tmp_path / "training.json").read_text())
    for limit in tree["limits"]:
        assert limit["name"] in done.stdout
    for files in tree["results"]["files"]:
        for name, seconds in files["seconds"].items():
            told = [sum(parts.values()) for parts in files["splits"][name]]
            assert told == pytest.approx(seconds, rel=0.02)
