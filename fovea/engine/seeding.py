"""Randomness as a function of (seed, stage, step): resuming needs no saved random state."""

import numpy as np
import torch


def step_generator(seed: int, stage: str, step: int, device: torch.device) -> torch.Generator:
    """Make the generator of one step, and set torch's global state, which drop path draws from."""
    mixed = np.random.SeedSequence([seed, *stage.encode(), step]).generate_state(3, np.uint32)
    number = int(mixed[0]) << 31 | int(mixed[1]) >> 1
    torch.manual_seed(int(mixed[2]))  # another stream: paths must not follow the views
    return torch.Generator(device).manual_seed(number)
