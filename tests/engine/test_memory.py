"""What is computed again: as little as fits, told to the user, and without a trace in the run."""

import copy
from pathlib import Path

import pytest
import torch

from fovea.config import ConfigError, read_yaml
from fovea.data.loader import train_batches
from fovea.engine import run
from fovea.engine.memory import Needs, Plan, choose, fitted, measure
from fovea.engine.meter import Live, Usage
from fovea.engine.trainer import Trainer
from fovea.recipe import Recipe, read_recipe
from fovea.train import main
from fovea.trained import Trained

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
GB = 10**9
BLOCKS = 4
NEEDS = Needs(  # of a made-up network: 40 GB if all is kept, 8 GB if blocks are computed again
    standing=2 * GB,
    plain=Usage(kept=40 * GB, call=16 * GB, block=4 * GB, peaks=(42 * GB,)),
    blocks=Usage(kept=8 * GB, call=3 * GB, block=1 * GB, peaks=(9 * GB,)),
    pieces=Usage(kept=1 * GB, call=0, block=0, peaks=(3 * GB,)),
    count=BLOCKS,
)


def recipe(*words: str) -> Recipe:
    return read_recipe("smoke", ["pretrain.batch_size=32", *words])


def begin(settings: Recipe) -> Trained:
    return run._start(settings)


@pytest.fixture
def card(monkeypatch):
    """Let a GPU of that much free memory, in GB, be there to be asked."""

    def of(free: float) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (round(free * GB), 80 * GB))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Card")

    return of


@pytest.mark.parametrize(
    ("free", "blocks", "pieces"),
    [
        (80, False, 1),  # 44 GB
        (40, 1, 1),  # 35.75 GB
        (30, 2, 1),  # 27.5 GB
        (16, True, 1),  # 2 + 8 + (1 + 1 / 4) * 4 GB
        (15, False, 2),  # 2 + 1 + 17 / 2 GB
        (6, False, 8),  # 2 + 1 + 17 / 8 GB
        (5.4, False, 16),  # 2 + 3 GB
    ],
)
def test_as_little_as_fits_is_computed_again(free, blocks, pieces, card, capsys):
    card(free)
    chosen = choose(recipe(), recipe().pretrain, NEEDS, CUDA)
    assert chosen.checkpoint_blocks == blocks
    assert type(chosen.checkpoint_blocks) is type(blocks)
    assert chosen.objective.settings.accumulate == pieces
    (line,) = capsys.readouterr().out.splitlines()
    assert f"checkpoint_blocks={int(blocks) * (4 if blocks is True else 1)} of 4" in line
    assert f"accumulate={pieces}" in line
    assert f"{free:.3g} GB free of 80 GB on Card" in line


def test_a_number_is_taken_as_it_is(card):
    card(6)
    words = ["pretrain.checkpoint_blocks=2"]
    chosen = choose(recipe(*words), recipe(*words).pretrain, NEEDS, CUDA)
    assert (chosen.checkpoint_blocks, chosen.objective.settings.accumulate) == (2, 4)
    card(20)
    words = ["pretrain.objective.accumulate=1"]
    chosen = choose(recipe(*words), recipe(*words).pretrain, NEEDS, CUDA)
    assert (chosen.checkpoint_blocks, chosen.objective.settings.accumulate) == (True, 1)


def test_plans_are_tried_from_the_least_computed_again_on():
    plans = NEEDS.plans("auto", "auto", 8)
    assert plans[:7] == [
        *(Plan(blocks, 1) for blocks in range(5)),
        *(Plan(0, pieces) for pieces in (2, 4)),
    ]
    assert plans[-1] == Plan(4, 8)
    assert NEEDS.plans(True, 4, 8) == [Plan(4, 4)]
    without_blocks = Needs(0, NEEDS.plain, NEEDS.plain, NEEDS.pieces, count=0)
    assert without_blocks.plans("auto", "auto", 4) == [Plan(0, 1), Plan(0, 2), Plan(0, 4)]


def test_what_cannot_fit_is_refused_in_one_sentence(card):
    card(3)
    with pytest.raises(ConfigError) as refused:
        choose(recipe(), recipe().pretrain, NEEDS, CUDA)
    (line,) = refused.value.lines
    assert line == (
        "pretrain.batch_size: a step of 32 images takes 5 GB, computing again all that the "
        "settings allow, and there are 3 GB free of 80 GB on Card; try, in this order: "
        "precision=bfloat16, a pretrain.batch_size below 32, more processes"
    )
    words = ["pretrain.checkpoint_blocks=false", "precision=bfloat16"]
    with pytest.raises(ConfigError, match=r"order: pretrain\.checkpoint_blocks=true, a pre"):
        choose(recipe(*words), recipe(*words).pretrain, NEEDS, CUDA)


def test_on_a_cpu_auto_stays_and_nothing_is_measured():
    settings = recipe()
    trained, data = begin(settings), run.load_data(settings, "train")
    before = torch.get_rng_state()
    assert fitted(settings, settings.pretrain, trained, data, CPU) is settings.pretrain
    assert torch.equal(torch.get_rng_state(), before)


def trainer(settings: Recipe, trained: Trained, folder: Path) -> Trainer:
    data = run.load_data(settings, "train")
    stage = run._begin(settings, "pretrain", settings.pretrain, trained, data, CPU)
    extractor = trained.model.extractor
    return Trainer(stage, settings.pretrain, settings, extractor, data, folder / "pretrain")


def test_measuring_leaves_no_trace(tmp_path):
    settings = recipe("model.backbone.drop_path=0.2")
    data = run.load_data(settings, "train")
    ends = []
    for measured in (False, True):
        trained = begin(settings)
        if measured:
            measure(settings, settings.pretrain, trained, data, CPU)
            assert not any(one.training for one in trained.model.modules())
            assert all(one.grad is None for one in trained.model.parameters())
        made = trainer(settings, trained, tmp_path)
        batches = train_batches(data, made._order(0), 0)
        made.stage.train()
        losses = []
        for step in range(2):
            loss, _ = made.forward_backward(step, next(batches), 0)
            losses.append(float(loss.total.detach()))
            made.optimizer.step()
        ends.append((losses, copy.deepcopy(made.stage.state_dict())))
    (losses, state), (others, other) = ends
    assert losses == others
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.parametrize("plan", [Plan(0, 1), Plan(1, 1), Plan(3, 1), Plan(0, 4), Plan(3, 4)])
def test_a_step_holds_at_most_what_was_told_and_not_much_less(plan, tmp_path):
    """The reference counts every tensor of a whole step, its backward pass and gradients too."""
    words = (
        f"pretrain.checkpoint_blocks={plan.blocks or 'false'}",
        f"pretrain.objective.accumulate={plan.pieces}",
        "pretrain.objective.locals=6",
        "pretrain.batch_size=48",
    )
    settings = recipe(*words)
    trained = begin(settings)
    data = run.load_data(settings, "train")
    told = measure(settings, settings.pretrain, trained, data, CPU).of(plan)
    made = trainer(settings, trained, tmp_path)
    made.stage.train()
    batch = next(train_batches(data, made._order(0), 0))
    tensors = [*made.stage.parameters(), *made.stage.buffers()]
    trainable = sum(one.nbytes for one in made.stage.parameters() if one.requires_grad)
    with Live(CPU, tensors) as live:
        made.forward_backward(0, batch, 0)
    held = sum(one.nbytes for one in tensors) + 2 * trainable + live.most
    assert held <= told <= 1.3 * held


def test_auto_is_kept_as_auto_so_that_another_card_may_go_on(tmp_path):
    words = ["smoke", f"run_dir={tmp_path}", "pretrain.steps=1", "probe=null", "policy=null"]
    assert main(words) == 0
    kept = read_yaml(tmp_path / "config.yaml")["pretrain"]
    assert (kept["checkpoint_blocks"], kept["objective"]["accumulate"]) == ("auto", "auto")
    changed = ["pretrain.checkpoint_blocks=2", "pretrain.objective.accumulate=4"]
    assert main([*words, *changed]) == 0
    assert main([*words, "pretrain.objective.koleo=0.5"]) == 2
