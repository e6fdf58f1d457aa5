"""Laws of the backbone."""

import pytest
import torch

import fovea


def test_contract(contract):
    contract("backbone", "template", width=16, depth=1, heads=2)


def test_order_of_the_windows_makes_no_difference():
    backbone = fovea.create("backbone", "template", patch_size=4, channels=1)
    patches, windows = torch.rand(2, 5, 1, 4, 4), torch.rand(2, 5, 3)
    state, order = backbone.initial_state(2), torch.tensor([3, 0, 4, 1, 2])
    seen = backbone(patches, windows, state)
    assert torch.allclose(seen, backbone(patches[:, order], windows[:, order], state), atol=1e-5)
    assert not torch.allclose(seen, backbone(patches[:, order], windows, state), atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="3 does not divide the width 64"):
        fovea.create("backbone", "template", heads=3, patch_size=4, channels=1)
