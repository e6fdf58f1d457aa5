"""Laws of the head."""

import torch

import fovea


def test_contract(contract):
    contract("task_head", "template", hidden=16)


def test_order_of_the_state_tokens_makes_no_difference():
    head = fovea.create("task_head", "template", width=8, num_state_tokens=3, num_classes=4)
    state = torch.randn(2, 3, 8)
    assert torch.allclose(head(state), head(state.flip(1)), atol=1e-6)
