"""Laws of the objective."""

import math

import torch
from fovea_template.ssl_objective.ssl_objective import contrast


def test_contract(contract):
    contract("ssl_objective", "template", glimpses=2, bottleneck=8)


def test_contrast_is_small_where_partners_are_alike_and_chance_where_all_are():
    one = torch.eye(4)
    loss, found = contrast(one, one, temperature=0.01)
    assert loss < 1e-6
    assert found == 1
    loss, _ = contrast(torch.ones(4, 4), torch.ones(4, 4), temperature=0.01)
    assert math.isclose(loss, math.log(4), rel_tol=1e-5)
