"""The objective's mathematics against slow oracles and lightly's implementations."""

import math

import pytest
import torch
from lightly.loss import DINOLoss, KoLeoLoss

from fovea.objective.config import HeadConfig
from fovea.objective.head import ProjectionHead
from fovea.objective.losses import cross_entropy, entropy, koleo, sinkhorn
from fovea.testing.second_device import second_device, waits


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_sinkhorn(logits: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """DINOv2's, line by line, in float64."""
    Q = torch.exp(logits.double() / temperature).t()
    K, B = Q.shape
    Q /= Q.sum()
    for _ in range(iterations):
        Q /= Q.sum(dim=1, keepdim=True)
        Q /= K
        Q /= Q.sum(dim=0, keepdim=True)
        Q /= B
    return (Q * B).t()


@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_equals_the_plain_form(temperature, iterations):
    logits = random(12, 7)
    expected = plain_sinkhorn(logits, temperature, iterations).float()
    torch.testing.assert_close(
        sinkhorn(logits, temperature, iterations), expected, rtol=1e-3, atol=1e-6
    )


def test_sinkhorn_is_finite_where_the_plain_form_is_not():
    logits = random(8, 5).sign() * 1000
    shared = sinkhorn(logits, 0.04, 3)
    assert plain_sinkhorn(logits, 0.04, 3).isnan().any()
    assert shared.isfinite().all()
    torch.testing.assert_close(shared.sum(1), torch.ones(8))


def test_sinkhorn_gives_samples_one_and_prototypes_equal_shares():
    shared = sinkhorn(random(24, 6), 0.5, 200)
    torch.testing.assert_close(shared.sum(1), torch.ones(24))
    torch.testing.assert_close(shared.sum(0), torch.full((6,), 4.0), rtol=1e-3, atol=0)


def test_sinkhorn_ignores_a_shift_of_all_logits_and_autocast():
    logits = random(6, 5)
    expected = sinkhorn(logits, 0.1, 3)
    torch.testing.assert_close(sinkhorn(logits + 3, 0.1, 3), expected, atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sinkhorn(logits, 0.1, 3), expected)


def test_cross_entropy_equals_the_double_loop_over_pairs():
    V, T, B, P = 5, 2, 3, 7
    logits, targets = random(V, B, P), random(T, B, P, seed=1).softmax(-1)
    expected = torch.zeros(V)
    for v in range(V):
        for t in range(T):
            for b in range(B):
                log_p = (logits[v, b] / 0.1).log_softmax(-1)
                expected[v] += -(targets[t, b] * log_p).sum() / (T * B)
    losses, prediction = cross_entropy(logits, torch.eye(P), targets, 0.1)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(prediction, (logits / 0.1).softmax(-1).mean((0, 1)))


@pytest.mark.parametrize("views", [1, 2, 4])
def test_cross_entropy_by_some_views_at_a_time_is_the_same(views, monkeypatch):
    V, B, E, P = 5, 3, 4, 7
    targets = random(2, B, P, seed=2).softmax(-1)

    def gradients():
        outputs, prototypes = random(V, B, E), random(P, E, seed=1)
        outputs.requires_grad_(), prototypes.requires_grad_()
        losses, prediction = cross_entropy(outputs, prototypes, targets, 0.1)
        (losses * torch.arange(1, V + 1)).sum().backward()
        return losses, prediction, outputs.grad, prototypes.grad

    whole = gradients()
    monkeypatch.setattr("fovea.objective.losses._LOGITS", views * B * P)
    for one, other in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_cross_entropy_equals_lightlys_dino_loss():
    """Lightly leaves out pairs (t, s) of one index: put a view there that nobody else meets."""
    V, B, P = 4, 6, 9
    teacher, students = random(B, P, seed=1), random(V, B, P)
    peer = DINOLoss(output_dim=P, teacher_temp=0.04, student_temp=0.1)
    expected = peer([teacher], [torch.zeros(B, P), *students])  # pair (0, 0) is the one left out
    targets = (teacher / 0.04).softmax(-1)[None]
    torch.testing.assert_close(
        cross_entropy(students, torch.eye(P), targets, 0.1)[0].mean(), expected
    )


def test_koleo_equals_lightlys_with_its_gradient():
    ours, theirs = (random(16, 8).requires_grad_() for _ in range(2))
    koleo(ours).backward()
    expected = KoLeoLoss()(theirs)
    expected.backward()
    torch.testing.assert_close(koleo(ours), expected)
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_koleo_and_its_gradient_are_finite_with_duplicates():
    features = random(6, 8)
    features[3] = features[0]
    for dtype in (torch.float32, torch.bfloat16):
        given = features.clone().to(dtype).requires_grad_()
        loss = koleo(given)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert given.grad.isfinite().all()


def test_koleo_falls_as_neighbours_part():
    near = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    apart = torch.tensor([[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]])
    assert koleo(apart) < koleo(near)


def test_entropy_is_ln_p_for_a_uniform_and_0_for_a_certain_one():
    assert float(entropy(torch.full((7,), 1 / 7))) == pytest.approx(math.log(7))
    assert entropy(torch.eye(3)).tolist() == [0, 0, 0]


def test_the_mathematics_waits_for_no_device():
    config = HeadConfig(hidden=8, bottleneck=4, prototypes=6, batch_norm=True)
    with second_device() as device:
        head = ProjectionHead(config, 5).train().to(device)
        features = torch.rand(12, 5, device=device)
        with waits() as found:
            targets = sinkhorn(head(features), 0.04, 3).view(2, 6, 6)
            outputs = head.project(features).view(2, 6, 4)
            losses, _ = cross_entropy(outputs, head.prototypes.weight, targets, 0.1)
            assert (losses.mean() + koleo(features)).device == device
            assert entropy(targets).shape == (2, 6)
    assert not found
