"""The objective: what it asks, what it trains, and that a run goes on with its own teacher."""

import copy

import pytest
import timm
import torch
from fovea_distill.maps import cells, picture, standardise
from safetensors.torch import save_file
from tiny import Noting, build, noise, seeded


def test_loss_equals_the_errors_written_out():
    objective, model = build(queries=1000)  # all 4 x 4 places
    scene = noise(model)
    loss = objective(scene, 0.0, seeded())
    view, *glimpses = objective._views(scene, seeded())
    features = objective.teacher.features(picture(view.patches))
    truth = standardise(features.flatten(2).mT)
    windows = cells(view.windows, 4, scene.sizes)
    first = objective.student.initial_state(3)
    states, state = [objective.student(view.patches, view.windows, first)], first
    for one in glimpses:
        state = objective.student(one.patches, one.windows, state)
        states.append(state)
    errors = [(objective.head(state, windows) - truth).square().mean() for state in states]
    assert torch.allclose(loss.total, torch.stack(errors).mean(), atol=1e-5)
    assert torch.allclose(loss.metrics["error_last_glimpse"], errors[-1], atol=1e-5)
    assert float(loss.metrics["error_of_mean"]) == pytest.approx(1, abs=0.01)


def test_telling_the_truth_costs_nothing_and_the_mean_costs_1():
    objective, model = build(queries=1000)
    truth: list[torch.Tensor] = []

    class Knowing(torch.nn.Module):
        def forward(self, state, windows):
            return truth[0].repeat(len(state) // 3, 1, 1)

    scene = noise(model)
    view = objective._views(scene, seeded())[0]
    generator = seeded()
    objective._views(scene, generator)
    truth.append(objective._ask(scene, view, generator)[1])
    objective.head = Knowing()
    loss = objective(scene, 0.0, seeded())
    assert float(loss.total) == 0
    assert float(loss.metrics["cosine_last_glimpse"]) == pytest.approx(1)
    truth[0] = torch.zeros_like(truth[0])
    assert float(objective(scene, 0.0, seeded()).total) == pytest.approx(1, abs=0.01)


def test_the_teacher_is_neither_trained_nor_saved():
    objective, model = build()
    before = objective.teacher.digest()
    assert not any(name.startswith("teacher.") for name in objective.state_dict())
    teachers = {id(one) for one in objective.teacher.model.parameters()}
    assert not teachers & {id(one) for one in objective.parameters()}
    optimizer = torch.optim.AdamW(objective.parameters(), 0.1)
    objective.train()
    objective(noise(model), 0.0, seeded()).total.backward()
    optimizer.step()
    objective.update(0.5)
    assert not objective.teacher.model.training
    assert torch.equal(objective.teacher.digest(), before)


def test_gradients_reach_the_student_and_the_head():
    objective, model = build()
    objective(noise(model), 0.0, seeded()).total.backward()
    for part in (objective.student, objective.head):
        assert all(one.grad is not None and one.grad.any() for one in part.parameters() if one.ndim)


def test_the_student_starts_alike_whatever_its_teacher():
    one, two = build()[0], build(teacher="test_vit2")[0]
    states = (objective.head.state.weight for objective in (one, two))
    assert torch.equal(*states)


def test_a_run_does_not_go_on_with_another_teacher(tmp_path):
    objective, _ = build()
    saved = copy.deepcopy(objective.state_dict())
    build()[0].load_state_dict(saved)
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "other.safetensors")
    other, _ = build(weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="weights of test_vit are not those that this run began"):
        other.load_state_dict(saved)


def test_learning_beats_the_mean():
    whole = {"grid": 4, "scale": [1.0, 1.0]}
    objective, model = build(head={"width": 32, "heads": 2}, queries=16, glimpses=1, view=whole)
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64)
    scene = model.extractor.prepare([ramp, ramp.mT.contiguous(), 1 - ramp, 1 - ramp.mT])
    optimizer = torch.optim.AdamW(objective.parameters(), 0.003)
    generator = seeded()
    for _ in range(120):
        loss = objective(scene, 0.0, generator)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.metrics["error_view"]) < 0.6 * float(loss.metrics["error_of_mean"])


def test_the_policy_is_shown_the_scene_and_told_each_gaze():
    policy = Noting()
    objective, model = build(policy=policy)
    scene = noise(model)
    objective(scene, 0.0, seeded())
    first, *gazes = policy.notes
    assert first is scene
    assert [one.shape for one in gazes] == [(3, 2), (3, 2)]
    assert objective.finest_zoom == policy.finest_zoom  # which is the closest here
