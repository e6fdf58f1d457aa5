"""Each kind of collapse fires its own warning, and a healthy run none."""

import math

import pytest
import torch

from fovea.engine.watch import CollapseWatch, rankme, spread

B, D, P = 64, 32, 100
HEALTHY = {"log_prototypes": math.log(P), "cross_entropy": 3.0, "prototype_entropy": 4.0}


def features(rank: int = D, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, rank, generator=g) @ torch.randn(rank, D, generator=g)


def kinds(step: int = 50, value: torch.Tensor | None = None, **metrics: float) -> set[str]:
    watch = CollapseWatch()
    measured = watch.measure({"global": features() if value is None else value})
    warnings = watch.warnings(step, {**HEALTHY, **metrics, **measured}, D)
    return {text.split("(")[1].split(")")[0] for text in warnings}


def test_healthy_features_fire_nothing():
    assert kinds() == set()


def test_constant_features_fire():
    constant = features()[:1] + 1e-3 * features(seed=1)
    assert "constant features" in kinds(value=constant)


def test_features_of_rank_1_fire_though_their_spread_is_healthy():
    """Five per cent of width 32 is 1.6."""
    line = torch.randn(B, 1) @ torch.randn(1, D)
    assert spread(line) > 0.5
    assert kinds(value=line) == {"low rank"}


def test_features_of_rank_3_fire_at_a_usual_width():
    watch = CollapseWatch()
    g = torch.Generator().manual_seed(0)
    flat = torch.randn(128, 3, generator=g) @ torch.randn(3, 384, generator=g)
    measured = watch.measure({"glimpse": flat})
    assert measured["spread_glimpse"] > 0.5
    warnings = watch.warnings(50, {**HEALTHY, **measured}, min(flat.shape))
    assert len(warnings) == 1
    assert "low rank" in warnings[0]


def test_one_prototype_fires():
    assert kinds(prototype_entropy=0.1) == {"one prototype"}


def test_a_loss_at_ln_prototypes_fires():
    assert kinds(cross_entropy=math.log(P) - 0.001) == {"uniform"}


def test_nothing_fires_within_the_grace_period():
    assert kinds(step=49, value=torch.ones(B, D), prototype_entropy=0.0) == set()


def test_each_kind_fires_once():
    watch = CollapseWatch()
    bad = {**HEALTHY, "prototype_entropy": 0.0}
    assert len(watch.warnings(60, bad, D)) == 1
    assert watch.warnings(61, bad, D) == []
    assert len(watch.warnings(62, {**bad, "cross_entropy": math.log(P)}, D)) == 1


def test_stages_without_features_fire_nothing():
    assert CollapseWatch().warnings(99, {"loss": 1.0}, 0) == []


@pytest.mark.parametrize("rank", [1, 5, 32])
def test_rankme_of_equal_singular_values_is_their_number(rank):
    orthogonal = torch.linalg.qr(features())[0][:, :rank] @ torch.eye(rank, D)
    assert rankme(orthogonal) == pytest.approx(rank, rel=1e-4)


def test_spread_is_near_1_on_a_filled_sphere_and_0_for_a_constant():
    assert spread(torch.randn(2000, D)) == pytest.approx(1, abs=0.05)
    assert spread(torch.ones(B, D)) == pytest.approx(0, abs=1e-4)
