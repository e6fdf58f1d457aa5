"""Parameter groups and clipping."""

import pytest
import torch
from torch import nn

from fovea.config import ConfigError
from fovea.engine.optim import build_optimizer, clip_gradients, set_schedules
from fovea.engine.run import _stage
from fovea.model import assemble
from fovea.recipe import read_recipe
from fovea.stages.stage import Stage
from fovea.trained import Trained


def pretraining(*words: str):
    recipe = read_recipe("smoke", ["model.backbone.depth=3", *words])
    torch.manual_seed(0)
    stage = _stage("pretrain", recipe.pretrain, Trained(assemble(recipe.model)), None)
    return stage, recipe.pretrain.optimizer


def rates(stage: Stage, config) -> dict[str, float]:
    optimizer = build_optimizer(stage, config)
    lr = set_schedules(optimizer, config, 0.5)
    names = {parameter: name for name, parameter in stage.named_parameters()}
    return {
        names[one]: group["lr"] / lr for group in optimizer.param_groups for one in group["params"]
    }


def test_layers_learn_more_slowly_towards_the_input():
    found = rates(*pretraining("pretrain.optimizer.layer_decay=0.5"))
    student = "objective.student."
    expected = {
        "state_tokens": 1 / 16,
        "patch_embed.proj.weight": 1 / 16,
        "position.": 1 / 16,
        "blocks.0.": 1 / 8,
        "blocks.1.": 1 / 4,
        "blocks.2.": 1 / 2,
        "norm.": 1,
    }
    for start, factor in expected.items():
        of_part = {
            round(rate, 6) for name, rate in found.items() if name.startswith(student + start)
        }
        assert list(of_part) == [pytest.approx(factor)], start
    assert {rate for name, rate in found.items() if ".head." in name} == {1}


def test_the_patch_embedding_may_learn_at_its_own_rate():
    found = rates(*pretraining("pretrain.optimizer.patch_embed_lr=0.2"))
    slow = {name for name, rate in found.items() if rate != 1}
    assert slow == {f"objective.student.patch_embed.proj.{one}" for one in ("weight", "bias")}
    assert found[min(slow)] == pytest.approx(0.2)


def test_everything_learns_alike_unless_asked():
    assert set(rates(*pretraining()).values()) == {1.0}


class Two(Stage):
    """Two parts, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.own = nn.Parameter(torch.zeros(2))

    def clipped(self):
        return [self.one, self.other]

    forward = result = lambda self: None


def test_each_part_is_clipped_by_its_own_norm():
    stage = Two()
    for parameter, size in ((stage.one.weight, 100.0), (stage.other.weight, 0.5), (stage.own, 9.0)):
        parameter.grad = torch.full_like(parameter, size)
    before = stage.other.weight.grad.clone()
    norm = clip_gradients(stage, 3.0)
    assert float(norm) == pytest.approx((4 * 100**2 + 4 * 0.25 + 2 * 81) ** 0.5)
    assert float(stage.one.weight.grad.norm()) == pytest.approx(3, rel=1e-4)
    assert torch.equal(stage.other.weight.grad, before)  # small: left alone
    assert float(stage.own.grad.norm()) == pytest.approx(3, rel=1e-4)


def test_settings_without_effect_on_a_backbone_are_refused(monkeypatch):
    stage, config = pretraining("pretrain.optimizer.layer_decay=0.9")
    for backbone in stage.backbones():
        monkeypatch.setattr(backbone, "layers", list)
    with pytest.raises(ConfigError, match="layer_decay"):
        build_optimizer(stage, config)
