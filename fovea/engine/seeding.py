"""Randomness as a function of (seed, stage, step, place): resuming needs no saved random state."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fovea.draws import BatchGenerator


def step_generator(
    seed: int,
    stage: str,
    step: int,
    device: torch.device,
    places: Tensor,
    total: int,
    rank: int = 0,
) -> BatchGenerator:
    """Make the generator of one step, and set torch's global state, which drop path draws from.

    Args:
        seed: of the run.
        stage: its name.
        step: of the stage.
        device: where numbers are drawn.
        places: int64 [B], where the images of this process stand in the whole batch.
        total: images of the whole batch.
        rank: number of this process: drop path and whatever draws for itself differ between them.
    """
    key = [seed, *stage.encode(), step]
    whole = np.random.SeedSequence(key).generate_state(2, np.uint32)
    own = np.random.SeedSequence(key, spawn_key=(rank,)).generate_state(3, np.uint32)
    torch.manual_seed(int(own[2]))  # another stream: paths must not follow the views
    generator = BatchGenerator(device)
    generator.manual_seed(_number(own))
    generator.whole = torch.Generator(device).manual_seed(_number(whole))
    generator.places, generator.total = places.to(device), total
    return generator


def _number(words: Any) -> int:
    return int(words[0]) << 31 | int(words[1]) >> 1
