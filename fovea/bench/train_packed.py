"""Global view, local views and first glimpse through the student in one pass, to see if it pays.

All layers but attention treat tokens alike, so views of any lengths can go through them as one row
of tokens; attention and stochastic depth take each length by itself. Fewer and larger matrix
products, at the price of cutting and joining in every block.
"""

from collections.abc import Callable, Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fovea.backbone.attention import KernelAttention
from fovea.backbone.timm_vit import TimmViT
from fovea.bench.train_ours import OurTraining
from fovea.interfaces import Scene
from fovea.objective.views import View

Shapes = Sequence[tuple[int, int]]
"""Of each group of views in a row of tokens: how many views, and tokens of each."""


def in_one_pass(training: OurTraining) -> None:
    """Have the student see what does not depend on an earlier glimpse at once."""
    objective, student = training.objective, training.objective.student
    assert isinstance(student, TimmViT)

    def features(scene: Scene, generator: torch.Generator) -> Tensor:
        views = [objective.views.globe(scene, generator, teacher=False)]
        first, *others = objective.views.sequence(scene, generator)
        views.append(first)
        if objective.config.locals:
            views.append(objective.views.locals(scene, generator))
        globe, state, *crops = see_at_once(student, views)
        steps = [state[:, 0]]
        for view in others:
            state = student(view.patches, view.windows, state.detach())
            steps.append(state[:, 0])
        each = [one[:, 0].unflatten(0, (len(scene), -1)).transpose(0, 1) for one in crops]
        return torch.cat([globe[None, :, 0], *each, torch.stack(steps)])

    setattr(objective, "_student_features", features)  # noqa: B010  # mypy forbids the plain one


def see_at_once(student: TimmViT, views: Sequence[View]) -> list[Tensor]:
    """See views from the learned first state -> the state [R, K, D] of each."""
    tokens = []
    for view in views:
        seen = student.embed(view.patches) + student.position(view.windows)
        state = student.initial_state(len(seen)).to(seen.dtype)
        tokens.append(torch.cat([state, seen], dim=1))  # [R, K + N, D]
    shapes = [(one.shape[0], one.shape[1]) for one in tokens]
    row = torch.cat([one.flatten(0, 1) for one in tokens])[None]  # [1, all tokens, D]
    for block in student.blocks:
        row = _block(block, row, shapes)
    K = student.num_state_tokens
    return [student.norm(one[:, :K]) for one in _groups(row, shapes)]


def _block(block: Block, row: Tensor, shapes: Shapes) -> Tensor:
    """Do what timm's block does with each group of views: tokens [1, T, D] -> [1, T, D]."""
    attention = block.attn
    assert isinstance(attention, KernelAttention)
    q, k, v = (_groups(one, shapes) for one in attention.split(block.norm1(row)))
    mixed = [attention.mix(*one) for one in zip(q, k, v, strict=True)]
    joined = attention.join(torch.cat([one.flatten(0, 1) for one in mixed])[None])
    row = row + _each(block.drop_path1, block.ls1(joined), shapes)
    return row + _each(block.drop_path2, block.ls2(block.mlp(block.norm2(row))), shapes)


def _groups(row: Tensor, shapes: Shapes) -> list[Tensor]:
    """Cut a row [1, T, ...] into groups of views [R, T of each, ...]."""
    parts = row[0].split([views * length for views, length in shapes])
    return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


def _each(drop_path: Callable[[Tensor], Tensor], row: Tensor, shapes: Shapes) -> Tensor:
    """Drop whole views, as stochastic depth does."""
    if isinstance(drop_path, nn.Identity):
        return row
    kept = [drop_path(group).flatten(0, 1) for group in _groups(row, shapes)]
    return torch.cat(kept)[None]
