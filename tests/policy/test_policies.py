"""Gaze policies against written-out mixtures and sums."""

import math

import pytest
import torch

from fovea.draws import draw
from fovea.policy.config import MixtureConfig, RandomConfig
from fovea.policy.gmm import MixturePolicy
from fovea.policy.grpo import advantages, discounted_returns
from fovea.policy.random import RandomGaze
from fovea.schedule import Schedule
from fovea.testing.second_device import second_device, waits

SIZES = {"width": 16, "num_state_tokens": 3}


def mixture(**settings: object) -> MixturePolicy:
    torch.manual_seed(0)
    config = MixtureConfig(**{"components": 3, "depth": 1, "heads": 2, **settings})
    return MixturePolicy(config, **SIZES).eval()


def state(B: int = 4) -> torch.Tensor:
    return torch.randn(B, 3, 16, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_gaze_fills_its_bounds_evenly():
    policy = RandomGaze(RandomConfig(low=0.1, high=0.9), **SIZES)
    gaze = draw(policy(state(4000)), generator())
    assert gaze.shape == (4000, 2)
    assert gaze.min() >= 0.1
    assert gaze.max() <= 0.9
    torch.testing.assert_close(gaze.mean(0), torch.full((2,), 0.5), rtol=0, atol=0.02)
    torch.testing.assert_close(gaze.std(0), torch.full((2,), 0.8 / 12**0.5), rtol=0, atol=0.02)
    assert torch.equal(policy.best(state()), torch.full((4, 2), 0.5))


def test_mixture_log_probability_equals_the_sum_written_out():
    policy, seen = mixture(), state()
    gaze = torch.rand(4, 2, generator=generator())
    means, logits = (values.detach() for values in policy._mixture(seen))
    weights, std = logits.softmax(1), 0.2
    for b in range(4):
        density = 0.0
        for m in range(3):
            squares = sum(((gaze[b, i] - means[b, m, i]) / std) ** 2 for i in range(2))
            density += weights[b, m] * math.exp(-squares / 2) / (2 * math.pi * std**2)
        torch.testing.assert_close(policy(seen).log_prob(gaze)[b], torch.log(density))


def test_means_lie_in_the_image_and_differ():
    means, logits = mixture()._mixture(100 * state())
    assert means.shape == (4, 3, 2)
    assert logits.shape == (4, 3)
    assert ((means >= 0) & (means <= 1)).all()
    assert (means[:, 0] - means[:, 1]).abs().sum(1).min() > 1e-3


def test_best_is_the_mean_of_the_likeliest_component():
    policy, seen = mixture(), state()
    means, logits = policy._mixture(seen)
    expected = torch.stack([means[b, int(logits[b].argmax())] for b in range(4)])
    assert torch.equal(policy.best(seen), expected)


def test_spread_follows_the_schedule_and_the_checkpoint():
    policy = mixture(std=Schedule(start=0.4, end=0.1, shape="linear"))
    assert float(policy.std) == pytest.approx(0.4)
    for progress, expected in ((0.5, 0.25), (1.0, 0.1), (0.0, 0.4), (2.0, 0.1)):
        policy.anneal(progress)
        assert float(policy.std) == pytest.approx(expected)
    other = mixture(std=Schedule(start=0.4, end=0.1))
    other.load_state_dict(policy.state_dict())
    assert float(other.std) == pytest.approx(0.1)


def test_samples_spread_as_told():
    policy = mixture(components=1, std=Schedule(start=0.07, end=0.07))
    gaze = draw(policy(state(1).expand(4000, -1, -1)), generator())
    torch.testing.assert_close(gaze.std(0), torch.full((2,), 0.07), rtol=0.05, atol=0)


def test_each_state_has_its_own_gaze_and_order_of_images_is_irrelevant():
    policy, seen = mixture(), state()
    best = policy.best(seen)
    torch.testing.assert_close(policy.best(seen.flip(0)), best.flip(0))
    assert len({tuple(gaze.tolist()) for gaze in best}) == 4


def test_all_of_the_policy_learns():
    policy, seen = mixture(), state()
    policy(seen).log_prob(torch.rand(4, 2)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in policy.parameters())


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"policy\.heads: 5 does not divide the width 16"):
        mixture(heads=5)


def test_draw_follows_its_generator_and_leaves_the_global_state_alone():
    distribution = mixture()(state())
    before = torch.get_rng_state()
    one, same, other = (draw(distribution, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    one_generator = generator()
    assert not torch.equal(draw(distribution, one_generator), draw(distribution, one_generator))


def test_draw_without_a_generator_follows_the_global_state():
    distribution = RandomGaze(RandomConfig(), **SIZES)(state())
    torch.manual_seed(3)
    one = draw(distribution, None)
    assert not torch.equal(draw(distribution, None), one)
    torch.manual_seed(3)
    assert torch.equal(draw(distribution, None), one)


def test_samples_carry_no_gradient():
    assert not draw(mixture()(state()), generator()).requires_grad


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_returns_equal_the_double_sum(discount):
    rewards = torch.rand(2, 3, 5, generator=generator())
    expected = torch.zeros_like(rewards)
    for t in range(5):
        for k in range(5 - t):
            expected[..., t] += discount**k * rewards[..., t + k]
    torch.testing.assert_close(discounted_returns(rewards, discount), expected)


def test_advantages_have_mean_0_and_deviation_1_per_image_and_step():
    values = advantages(torch.rand(4, 8, 5, generator=generator()))
    torch.testing.assert_close(values.mean(1), torch.zeros(4, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.std(1, unbiased=False), torch.ones(4, 5), rtol=0, atol=1e-4)


def test_advantages_ignore_shift_and_scale_of_an_images_rewards():
    returns = torch.rand(4, 8, 5, generator=generator()).double()
    scale = torch.tensor([1.0, 2.0, 5.0, 0.5]).double().view(4, 1, 1)
    torch.testing.assert_close(
        advantages(3 + scale * returns), advantages(returns), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("reward", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("traces", [2, 3, 8])
def test_equal_rewards_give_no_advantage(reward, traces):
    values = advantages(torch.full((2, traces, 4), reward))
    assert values.abs().max() < 0.1  # rounding, of 1e-8, over epsilon


def test_a_glimpse_of_a_policy_waits_for_no_device():
    learned, anywhere = mixture(depth=2), RandomGaze(RandomConfig(), **SIZES)
    with second_device() as device:
        seen, generator = state().to(device), torch.Generator(device)
        learned.to(device)
        with waits() as found:
            for policy in (learned, anywhere):
                gaze = draw(policy(seen), generator)
                assert policy(seen).log_prob(gaze).shape == (len(gaze),)
                policy.best(seen)
            learned.anneal(0.5)
            returns = discounted_returns(torch.rand(2, 3, 4, device=device), 0.9)
            assert advantages(returns).shape == (2, 3, 4)
    assert not found
