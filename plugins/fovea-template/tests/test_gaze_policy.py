"""Laws of the policy."""

import torch

import fovea


def test_contract(contract):
    contract("gaze_policy", "template")


def test_it_begins_about_the_centre_with_the_given_spread():
    policy = fovea.create("gaze_policy", "template", std=0.1, width=8, num_state_tokens=2)
    gazes = policy(torch.randn(4000, 2, 8))
    assert torch.equal(gazes.mean, torch.full((4000, 2), 0.5))
    assert torch.allclose(gazes.stddev, torch.tensor(0.1))


def test_it_learns_where_to_look():
    policy = fovea.create("gaze_policy", "template", width=8, num_state_tokens=2)
    state, goal = torch.ones(1, 2, 8), torch.tensor([[0.8, 0.2]])
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        (-policy(state).log_prob(goal)).sum().backward()
        optimizer.step()
    assert torch.allclose(policy.best(state), goal, atol=0.01)
