"""Laws of the context."""

import torch

import fovea

GAZE, SIZES = torch.tensor([[0.3, 0.6]]), torch.tensor([[100, 200]])


def test_contract(contract):
    contract("context_builder", "template", count=9, zoom=2.5)


def test_windows_lie_within_the_radius_and_grow_outwards():
    context = fovea.create("context_builder", "template", radius=0.25)
    windows = context.windows(GAZE, SIZES, None)[0]
    pixels = (windows[:, :2] - GAZE) * torch.tensor([200, 100])
    distance = pixels.norm(dim=1)  # from 0 to a quarter of the shorter side
    assert torch.allclose(distance[[0, -1]], torch.tensor([0.0, 25.0]).double())
    assert (distance.diff() > 0).all()
    assert (windows[:, 2].diff() < 0).all()


def test_training_turns_the_spiral():
    context = fovea.create("context_builder", "template")
    still = context.windows(GAZE, SIZES, None)
    turned = context.windows(GAZE, SIZES, torch.Generator().manual_seed(0))
    assert not torch.allclose(still[:, 1:], turned[:, 1:])
    assert torch.allclose(still[:, 0], turned[:, 0])  # the gaze's own stays
