"""The sequential-to-global objective against a slow reference, and where its gradient runs."""

import pytest
import torch
import torch.nn.functional as F

from fovea.config import validate
from fovea.interfaces import Loss
from fovea.model import FovealModel, assemble
from fovea.objective.config import Seq2GlobalConfig
from fovea.objective.losses import koleo, sinkhorn
from fovea.objective.seq2global import Seq2Global, _follow
from fovea.parts import part
from fovea.recipe import ModelConfig, read_recipe

NO_COLOUR = {"saturation": 0.0, "hue": 0.0, "grayscale": 0.0}


def tiny_model(channels: int = 1, **backbone: object) -> FovealModel:
    torch.manual_seed(0)
    backbone = {"width": 16, "depth": 1, "heads": 2, "state_tokens": 3, **backbone}
    tree = {
        "patch_size": 4,
        "channels": channels,
        "extractor": {"name": "integral"},
        "context": {"name": "foveal", "zooms": [0, 1], "grid": 2},
        "vit_context": {"name": "grid", "grid": 3},
        "backbone": {
            "name": "timm_vit",
            "arch": "vit_tiny_patch16_224",
            "init": "xavier",
            "mean": [0.5] * channels,
            "std": [0.25] * channels,
            **backbone,
        },
        "policy": {"name": "random"},
    }
    return assemble(validate(ModelConfig, tree))


def build(backbone: dict | None = None, **settings: object) -> tuple[Seq2Global, FovealModel]:
    model = tiny_model(**(backbone or {}))
    tree = {
        "glimpses": 3,
        "locals": 2,
        "global_crop": {"grid": 3, "scale": [0.32, 1.0]},
        "local_crop": {"grid": 2, "scale": [0.05, 0.32]},
        "augment": NO_COLOUR,
        "head": {"hidden": 16, "bottleneck": 8, "prototypes": 12},
        "frozen_prototypes": 0.1,
        **settings,
    }
    objective = Seq2Global(
        validate(Seq2GlobalConfig, tree),
        backbone=model.backbone,
        context=model.context,
        policy=model.policy,
    )
    return objective.train(), model


def scene_of(model: FovealModel, batch: int = 4):
    generator = torch.Generator().manual_seed(5)
    sizes = [(20, 24), (32, 16), (16, 16), (40, 30)][:batch]
    C = model.config.channels
    return model.prepare(
        [torch.randint(256, (C, *s), generator=generator, dtype=torch.uint8) for s in sizes]
    )


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def token(backbone, view, state):
    return backbone(view.patches, view.windows, state)


@pytest.fixture
def drawn():
    """Build an objective, and draw the views that its forward will draw from the same seed."""
    objective, model = build()
    scene, g = scene_of(model), generator()
    draw = objective.views
    views = {
        "teacher_globe": draw.globe(scene, g, teacher=True),
        "teacher_sequence": draw.sequence(scene, g),
        "globe": draw.globe(scene, g, teacher=False),
        "sequence": draw.sequence(scene, g),
        "locals": draw.locals(scene, g),
    }
    return objective, scene, views


def slow_outputs(objective: Seq2Global, views: dict) -> list[torch.Tensor]:
    """See the student's views one by one -> [B, D] for each."""
    student, B = objective.student, len(views["globe"].patches)
    outputs = [token(student, views["globe"], student.initial_state(B))[:, 0]]
    crops = views["locals"]
    for v in range(objective.config.locals):
        rows = [b * objective.config.locals + v for b in range(B)]
        seen = student(crops.patches[rows], crops.windows[rows], student.initial_state(B))
        outputs.append(seen[:, 0])
    state = student.initial_state(B)
    for view in views["sequence"]:
        state = token(student, view, state.detach() if len(outputs) > 3 else state)
        outputs.append(state[:, 0])
    return outputs


def test_loss_equals_the_mean_over_pairs_written_out(drawn):
    objective, scene, views = drawn
    config, B = objective.config, len(scene)
    with torch.no_grad():
        teacher = objective.teacher
        globe = token(teacher, views["teacher_globe"], teacher.initial_state(B))[:, 0]
        state = teacher.initial_state(B)
        for view in views["teacher_sequence"]:
            state = token(teacher, view, state)
        logits = objective.teacher_head(torch.cat([globe, state[:, 0]]))
        temperature = config.teacher_temperature.at(0.5)
        targets = sinkhorn(logits, temperature, config.sinkhorn_iterations).split(B)
        outputs = slow_outputs(objective, views)
        pairs = [
            -(target * F.log_softmax(objective.head(output) / 0.1, -1)).sum(-1).mean()
            for output in outputs
            for target in targets
        ]
    expected = sum(pairs) / len(pairs) + config.koleo * koleo(outputs[0])
    assert len(pairs) == (1 + 2 + 3) * 2
    loss = objective(scene, 0.5, generator())
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss.metrics["cross_entropy"], sum(pairs) / len(pairs))


def test_no_gradient_runs_from_one_glimpse_into_the_one_before():
    """Glimpse 2 depends on the first patches, and yet has no gradient with respect to them."""
    objective, model = build(koleo=0.0)
    scene = scene_of(model)
    sequence = objective.views.sequence(scene, generator())
    first = sequence[0].patches.requires_grad_()
    steps = _follow(objective.student, sequence)
    assert torch.autograd.grad(steps[0][:, 0].sum(), first, retain_graph=True)[0].any()
    for later in steps[1:]:
        assert torch.autograd.grad(later[:, 0].sum(), first, allow_unused=True) == (None,)
    with torch.no_grad():
        first.add_(0.5)
        moved = _follow(objective.student, sequence)
    assert not torch.allclose(moved[1], steps[1])


def test_gradient_of_a_sequence_is_the_sum_of_its_steps(drawn):
    objective, _, views = drawn
    student = objective.student
    weights = [p for p in student.parameters() if p.requires_grad]
    whole = torch.autograd.grad(
        torch.stack(_follow(student, views["sequence"])).square().sum(), weights
    )
    summed = [torch.zeros_like(p) for p in weights]
    state = student.initial_state(4)
    for view in views["sequence"]:
        seen = token(student, view, state)
        for total, part_ in zip(
            summed,
            torch.autograd.grad(seen[:, 0].square().sum(), weights, allow_unused=True),
            strict=True,
        ):
            total += 0 if part_ is None else part_
        state = seen.detach().clone()
    for one, other in zip(whole, summed, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def backward(objective: Seq2Global, model: FovealModel, progress: float = 0.5) -> Loss:
    loss = objective(scene_of(model), progress, generator())
    loss.total.backward()
    return loss


def test_all_of_the_student_learns_and_nothing_of_the_teacher():
    objective, model = build()
    backward(objective, model)
    student = {
        **dict(objective.student.named_parameters()),
        **dict(objective.head.named_parameters()),
    }
    without = [name for name, p in student.items() if p.grad is None or not p.grad.any()]
    assert without == []
    assert objective.student.state_tokens.grad.any()
    teacher = [*objective.teacher.parameters(), *objective.teacher_head.parameters()]
    assert all(p.grad is None and not p.requires_grad for p in teacher)


def test_frozen_prototypes_have_no_gradient():
    objective, model = build()
    backward(objective, model, progress=0.05)
    assert all(p.grad is None for p in objective.head.prototypes.parameters())
    assert all(p.grad is not None for p in objective.head.mlp.parameters())


def test_teacher_moves_by_the_momentum():
    objective, _ = build(momentum={"start": 0.9, "end": 1.0, "shape": "linear"})
    with torch.no_grad():
        for p in [*objective.student.parameters(), *objective.head.parameters()]:
            p.add_(torch.randn_like(p))
    pairs = [(objective.teacher, objective.student), (objective.teacher_head, objective.head)]
    expected = [
        torch.lerp(a.detach(), b.detach(), 1 - objective.config.momentum.at(0.5))
        for old, new in pairs
        for a, b in zip(old.parameters(), new.parameters(), strict=True)
    ]
    objective.update(0.5)
    moved = [p for old, _ in pairs for p in old.parameters()]
    assert len(moved) == len(expected)
    assert all(torch.equal(p, q) for p, q in zip(moved, expected, strict=True))
    objective.update(1.0)  # a momentum of 1 stands still
    assert all(torch.equal(p, q) for p, q in zip(moved, expected, strict=True))
    assert objective.trained_backbone() is objective.teacher


def test_teacher_backbone_evaluates_while_the_student_trains():
    objective, _ = build(backbone={"drop_path": 0.5, "depth": 2})
    assert objective.student.training
    assert objective.head.training
    assert not any(module.training for module in objective.teacher.modules())


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_same_seed_gives_the_same_loss_bit_for_bit(drop_path):
    objective, model = build(backbone={"drop_path": drop_path, "depth": 2})
    scene, losses = scene_of(model), []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        losses.append(objective(scene, 0.5, generator(seed)).total)
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    losses[0].backward()


def test_global_random_state_is_left_alone():
    objective, model = build()
    before = torch.get_rng_state()
    objective(scene_of(model), 0.5, generator())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("key", ["saturation", "hue", "grayscale"])
def test_grey_images_refuse_colour_augmentation_by_name(key):
    with pytest.raises(ValueError, match=rf"objective\.augment\.{key}"):
        build(augment={**NO_COLOUR, key: 0.1})


def test_colour_images_take_the_default_augmentation():
    objective, model = build(backbone={"channels": 3}, augment={})
    assert backward(objective, model).total.isfinite()


def test_no_local_views_and_one_glimpse_will_do():
    objective, model = build(locals=0, glimpses=1)
    assert backward(objective, model).total.isfinite()


def test_uniform_student_scores_ln_prototypes():
    objective, model = build()
    with torch.no_grad():
        objective.head.prototypes.parametrizations.weight.original0.zero_()
    loss = objective(scene_of(model), 0.5, generator())
    torch.testing.assert_close(loss.metrics["cross_entropy"], loss.metrics["log_prototypes"])
    torch.testing.assert_close(loss.metrics["prototype_entropy"], loss.metrics["log_prototypes"])


def test_objective_is_found_by_its_name():
    model = tiny_model()
    recipe = read_recipe("quickstart")
    sizes = {"backbone": model.backbone, "context": model.context, "policy": model.policy}
    assert type(part("ssl_objective", recipe.pretrain.objective, **sizes)) is Seq2Global
