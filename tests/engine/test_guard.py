"""Laws of the guard: device and host judge alike, and a step that is refused changes nothing."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from fovea.data.loader import Batch
from fovea.engine.guard import Guard, copies, put_back
from fovea.engine.log import RunLog
from fovea.engine.trainer import Trainer
from fovea.extract.config import IntegralConfig
from fovea.extract.integral import IntegralExtractor
from fovea.images import Packed
from fovea.interfaces import DataSet, Loss, PatchExtractor
from fovea.recipe import read_recipe
from fovea.stages.stage import Stage

WHOLE = torch.tensor([[[0.5, 0.5, 0.0]]]).double()  # the window of a square image


def seen(losses: list[float]) -> Guard:
    guard = Guard()
    for loss in losses:
        assert guard.objection(loss, 1.0) is None
    return guard


def noise(seed: int, count: int, mean: float, spread: float) -> list[float]:
    values = np.random.default_rng(seed).normal(mean, spread, count).astype(np.float32)
    return [float(value) for value in values]


@pytest.mark.parametrize("count", [0, 63, 64, 200])
@pytest.mark.parametrize(("mean", "spread"), [(5.0, 0.1), (-0.2, 0.05), (0.0, 0.0), (1e30, 1e28)])
def test_host_and_device_judge_alike_also_next_to_the_limit(count, mean, spread):
    guard = seen(noise(count, count, mean, spread))
    limit = guard.limit()
    assert limit == np.float32(limit)  # nothing is rounded when it is compared with a loss
    near = np.float32(limit)
    losses = [near, np.nextafter(near, np.float32(math.inf)), np.nextafter(near, np.float32(-1e38))]
    losses += [0.0, -1e38, 3e38, math.inf, -math.inf, math.nan]
    norms = [0.0, 1.0, 3e38, math.inf, math.nan]
    for loss in losses:
        for norm in norms:
            numbers = torch.tensor([loss, norm], dtype=torch.float32)
            on_device = guard.objects(numbers)
            objection = copy.deepcopy(guard).objection(*numbers.tolist())
            assert on_device.shape == ()
            assert on_device.dtype == torch.float32
            assert on_device.item() == (objection is not None), (loss, norm)


def test_a_limit_beyond_float32_is_none():
    guard = Guard()
    for place in range(64):
        guard.objection(3e38 if place % 2 else -3e38, 1.0)
    assert guard.limit() == math.inf


def test_buffers_of_all_dtypes_are_put_back():
    now = [torch.rand(3), torch.tensor(4), torch.rand(2, 2).double(), torch.empty(0)]
    before = copies(now)
    expected = [one.clone() for one in now]
    for one in now:
        one.zero_()
    put_back(now, before)
    assert all(torch.equal(*pair) for pair in zip(now, expected, strict=True))
    put_back([], copies([]))


class Student(Stage):
    """A student that sees its images, its moving average, batch normalisation; at will a fault."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Linear(16, 4, bias=False)
        self.student = nn.Sequential(first, nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.teacher = nn.Linear(16, 4, bias=False).requires_grad_(False)
        self.fault: str | None = None

    def forward(self, scene, labels, progress, generator):
        rows = scene.read(WHOLE.expand(len(scene), -1, -1)).flatten(1)  # [B, 16]
        total = (self.student(rows)[:, 0] - labels).square().mean() + 1
        if self.fault == "gradient":  # finite, of infinite slope
            total = total + (self.student[0].weight * 0).abs().sqrt().sum()
        return Loss(total * {"loss": math.nan, "spike": 1e9}.get(self.fault, 1.0))

    @torch.no_grad()
    def update(self, progress):
        self.teacher.weight.lerp_(self.student[0].weight, 0.1)

    def result(self):
        raise NotImplementedError


class Empty(DataSet):
    """Nothing but a length."""

    classes = ()
    name = sample = None

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 4000


def trainer(folder) -> Trainer:
    torch.manual_seed(0)
    words = [f"run_dir={folder}", "pretrain.steps=200", "pretrain.batch_size=6"]
    recipe = read_recipe("quickstart", words)
    extractor = IntegralExtractor(IntegralConfig(mode="exact"), patch_size=4)
    return Trainer(Student(), recipe.pretrain, recipe, extractor, Empty(), folder / "pretrain")


def batch(number: int, packed: bool = False) -> Batch:
    rng = np.random.default_rng(number)
    images = [rng.integers(0, 256, (5 + side, 5 + side, 1), np.uint8) for side in range(6)]
    labels, places = torch.arange(6) % 2, torch.arange(6)
    names = [f"image {one}" for one in range(6)]
    return Batch(Packed.of(images) if packed else images, labels, None, names, places, [])


def state(of: Trainer) -> list[torch.Tensor]:
    """Copy all that the next step depends on."""
    kept = of.optimizer.state_dict()["state"]
    averages = [value for index in sorted(kept) for value in kept[index].values()]
    return [one.clone() for one in (*of.stage.state_dict().values(), *averages)]


def steps(of: Trainer, numbers: range, packed: bool = False) -> list[float]:
    """Make steps; return their losses."""
    of.folder.mkdir(parents=True, exist_ok=True)
    losses = []
    with RunLog(of.folder, "pretrain", 0, 200, 6, is_main=False) as log:
        for number in numbers:
            sent = of.transfer.send(batch(number, packed))
            loss, _ = of._step(number, sent, log, lambda: None)
            losses.append(math.nan if loss is None else loss.total.item())
    return losses


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("fault", ["loss", "gradient", "spike"])
def test_a_step_that_is_refused_changes_nothing_though_its_update_was_queued(fault, tmp_path):
    training = trainer(tmp_path)
    steps(training, range(70))
    before = state(training)
    assert len(before) > 15  # weights, buffers, moving average, averages of the optimiser, counts
    queued = []
    training.optimizer.register_step_post_hook(lambda *_: queued.append(training.optimizer))
    training.stage.fault = fault
    steps(training, range(70, 71))
    assert len(queued) == 1
    assert training.guard.skipped == 1
    assert same(state(training), before)
    training.stage.fault = None
    steps(training, range(71, 72))
    assert training.guard.skipped == 1
    assert not any(same([now], [then]) for now, then in zip(state(training), before, strict=True))


def test_packed_images_make_the_same_step_as_a_list(tmp_path):
    listed, packed = trainer(tmp_path / "listed"), trainer(tmp_path / "packed")
    assert steps(listed, range(5)) == steps(packed, range(5), packed=True)
    assert same(state(listed), state(packed))


def test_the_batch_is_fetched_after_the_update_was_queued_and_before_the_step_is_judged(tmp_path):
    training, order = trainer(tmp_path), []
    training.folder.mkdir(parents=True)
    training.optimizer.register_step_post_hook(lambda *_: order.append("queued"))
    with RunLog(training.folder, "pretrain", 0, 200, 6, is_main=False) as log:
        sent = training.transfer.send(batch(0))
        training._step(0, sent, log, lambda: order.append(f"judged {len(training.guard.losses)}"))
    assert order == ["queued", "judged 0"]
    assert len(training.guard.losses) == 1


class Unprepared(PatchExtractor):
    """Gives images as they are."""

    Config = IntegralConfig
    takes_packed_on_device = True

    def __init__(self) -> None:
        pass

    def prepare(self, images, device=None):
        return images


class Bright(Student):
    """Sees no more than the mean of all pixels."""

    def forward(self, scene, labels, progress, generator):
        noise = torch.rand(len(labels), 16, generator=generator, device=labels.device)
        rows = noise + scene.pixels.float().mean()
        return Loss((self.student(rows)[:, 0] - labels).square().mean())


@pytest.mark.gpu
def test_on_a_gpu_a_step_waits_for_nothing_but_its_numbers(tmp_path):
    words = [f"run_dir={tmp_path}", "pretrain.steps=200", "pretrain.batch_size=6"]
    recipe = read_recipe("quickstart", [*words, "device=cuda"])
    stage, folder = Bright().to("cuda"), tmp_path / "pretrain"
    training = Trainer(stage, recipe.pretrain, recipe, Unprepared(), Empty(), folder)
    steps(training, range(3))
    torch.cuda.set_sync_debug_mode("error")  # an event that is waited for is none
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with RunLog(folder, "pretrain", 0, 200, 6, is_main=False) as log:
            for number in range(3, 6):
                training._step(number, training.transfer.send(batch(number)), log, lambda: None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert training.guard.skipped == 0
