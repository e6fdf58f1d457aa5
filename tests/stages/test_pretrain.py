"""Blocks that keep their inputs only: the same numbers, and modules as they were."""

import copy

import pytest
import torch

from fovea.config import ConfigError
from fovea.engine.optim import build_optimizer
from fovea.model import assemble
from fovea.recipe import Recipe, read_recipe
from fovea.stages.pretrain import Pretrain
from fovea.trained import Trained


def recipe(*words: str) -> Recipe:
    return read_recipe("smoke", ["pretrain.optimizer.layer_decay=0.5", *words])


def stage(*words: str) -> Pretrain:
    settings = recipe(*words)
    torch.manual_seed(0)
    return Pretrain(settings.pretrain, Trained(assemble(settings.model))).train()


def gradients(made: Pretrain) -> dict[str, torch.Tensor]:
    """Run the student forward and backward."""
    student = made.objective.student
    generator = torch.Generator().manual_seed(1)
    patches = torch.rand(2, 5, 1, 8, 8, generator=generator)
    windows = torch.rand(2, 5, 3, generator=generator, dtype=torch.float64)
    student(patches, windows, student.initial_state(2)).square().sum().backward()
    return {name: one.grad for name, one in student.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("setting", ["1", "3", "true"])
def test_blocks_that_run_again_give_the_same_gradients_under_the_same_names(setting):
    plain, changed = stage(), stage(f"pretrain.checkpoint_blocks={setting}")
    ours, theirs = gradients(changed), gradients(plain)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert list(changed.state_dict()) == list(plain.state_dict())
    named = [[name for name, _ in one.named_modules()] for one in (plain, changed)]
    assert named[0] == named[1]


@pytest.mark.parametrize(("setting", "again"), [("auto", 0), ("false", 0), ("2", 2), ("true", 3)])
def test_the_first_blocks_run_again_and_no_others(setting, again):
    made = stage(f"pretrain.checkpoint_blocks={setting}")
    runs = []
    for number, block in enumerate(made.objective.student.layers()):
        block.attn.register_forward_hook(lambda *_, number=number: runs.append(number))
    gradients(made)
    assert sorted(runs) == sorted([0, 1, 2, *range(again)])


def test_learning_rates_decay_by_block_whether_it_runs_again_or_not():
    groups = [
        [(group["factor"], len(group["params"])) for group in optimizer.param_groups]
        for optimizer in (
            build_optimizer(stage(word), recipe(word).pretrain.optimizer)
            for word in ("pretrain.checkpoint_blocks=false", "pretrain.checkpoint_blocks=2")
        )
    ]
    assert groups[0] == groups[1]


def test_a_copy_runs_its_own_blocks_again():
    made = stage("pretrain.checkpoint_blocks=true")
    copied = copy.deepcopy(made)
    with torch.no_grad():
        for one in made.parameters():
            one.zero_()
    ours = gradients(copied)
    theirs = gradients(stage())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo asks every tensor for it
def test_compiled_blocks_that_run_again_are_still_one_graph():
    import torch._dynamo.testing as counting

    made, counter = stage("pretrain.checkpoint_blocks=2"), counting.CompileCounter()
    made.objective.student.compile(backend=counter)
    gradients(made)
    assert counter.frame_count == 1


def test_more_blocks_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match=r"checkpoint_blocks: this backbone has 3, found 4"):
        stage("pretrain.checkpoint_blocks=4")
    with pytest.raises(ConfigError, match=r"or true or false or 'auto', found 'some'"):
        recipe("pretrain.checkpoint_blocks=some")
