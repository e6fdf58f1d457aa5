"""What a forward pass keeps: by hand, and in proportion to all that it should follow."""

from functools import cache

import numpy as np
import pytest
import torch

from fovea.engine.meter import Live, Usage, usage_at
from fovea.model import assemble
from fovea.recipe import read_recipe
from fovea.stages.pretrain import Pretrain
from fovea.trained import Trained

BATCH = 24
IMAGES = [np.full((40 + 8 * i, 64, 1), 50 * i, np.uint8) for i in range(4)]
CPU = torch.device("cpu")


@cache
def usage(*words: str, batch: int = BATCH, repeated: int = 1) -> Usage:
    recipe = read_recipe("smoke", list(words))
    trained = Trained(assemble(recipe.model))
    stage = Pretrain(recipe.pretrain, trained)
    return usage_at(stage, trained.model.extractor, IMAGES * repeated, batch, False)


def test_a_tensor_counts_once_and_until_it_is_gone():
    before = torch.ones(1000)
    with Live(CPU, [before]) as live:
        view = before[10:]
        assert live.bytes == 0
        made = view + 1
        assert live.bytes == 990 * 4
        part = made[5:].view(5, -1)
        made.add_(1)
        assert live.bytes == 990 * 4
        del made
        assert live.bytes == 990 * 4  # its view is there
        del part
        assert (live.bytes, live.most) == (0, 990 * 4)


def test_what_is_kept_is_what_autograd_keeps():
    weight = torch.ones(50, 50, requires_grad=True)
    with Live(CPU, [weight]) as live:
        x = torch.rand(20, 50)
        loss = (x @ weight).tanh().exp().sum()
        kept = live.bytes
    assert kept == 4 * (20 * 50 * 3 + 1)  # x; what tanh gives; what exp gives; the loss
    assert loss > 0


def test_a_block_keeps_what_counting_by_hand_gives():
    """For each token in float32, of a block of width D that sees T tokens.

    Both norms: input and output. Attention: queries, keys, values, output. The MLP: 4 * D before
    and after GELU. The input is the block's before, so that 16 * D are its own.
    """
    backbone = ["model.backbone.arch=vit_small_patch16_224", "model.backbone.depth=2"]
    sizes = ["model.backbone.width=96", "model.backbone.heads=4"]
    crops = ["pretrain.objective.locals=0", "pretrain.objective.global_crop.grid=10"]
    measured = usage(*backbone, *sizes, *crops)
    state = read_recipe("smoke").model.backbone.settings.state_tokens
    by_hand = BATCH * (10 * 10 + state) * 16 * 96 * 4
    assert measured.block == pytest.approx(by_hand, rel=0.05)


def test_a_batch_takes_what_was_told_from_a_few_images():
    for words in ((), ("pretrain.checkpoint_blocks=true",), ("pretrain.objective.accumulate=2",)):
        told, measured = usage(*words), usage(*words, repeated=BATCH // len(IMAGES))
        assert told.kept == pytest.approx(measured.kept, rel=1e-3)
        assert told.most == pytest.approx(measured.most, rel=1e-2)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("model.backbone.depth", (2, 4, 6)),
        ("pretrain.objective.glimpses", (2, 4, 6)),
        ("pretrain.objective.locals", (1, 3, 5)),
    ],
)
def test_blocks_glimpses_and_views_each_keep_the_same(key, values):
    kept = [usage(f"{key}={value}").kept for value in values]
    assert kept[1] - kept[0] == pytest.approx(kept[2] - kept[1], rel=0.02)
    assert kept[1] > 1.1 * kept[0]


def test_half_the_blocks_computed_again_keep_half_way_between_none_and_all():
    none, all_of_them = (
        usage("model.backbone.depth=4", f"pretrain.checkpoint_blocks={one}")
        for one in ("false", "true")
    )
    half = usage("model.backbone.depth=4", "pretrain.checkpoint_blocks=2")
    assert none.towards(all_of_them, 0.5).kept == pytest.approx(half.kept, rel=0.02)


def test_reduced_precision_keeps_less():
    recipe = read_recipe("smoke")
    trained = Trained(assemble(recipe.model))
    reader = trained.model.extractor
    whole, half = (
        usage_at(Pretrain(recipe.pretrain, trained), reader, IMAGES, BATCH, reduced)
        for reduced in (False, True)
    )
    assert half.kept < 0.8 * whole.kept
