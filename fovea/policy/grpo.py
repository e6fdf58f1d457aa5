"""Group-relative policy optimisation: traces of one image are each other's baseline."""

import torch
from torch import Tensor


def discounted_returns(rewards: Tensor, discount: float) -> Tensor:
    """Sum what is still to come: rewards [B, G, T] -> R_t = sum_k discount^k r_(t+k), [B, G, T]."""
    returns = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[..., 0])
    for t in reversed(range(rewards.shape[-1])):
        following = rewards[..., t] + discount * following
        returns[..., t] = following
    return returns


def advantages(returns: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Compare traces: returns [B, G, T], normalised per image and step. Paper, section 3.3."""
    mean = returns.mean(1, keepdim=True)
    deviation = returns.std(1, keepdim=True, unbiased=False)
    return (returns - mean) / (deviation + epsilon)
