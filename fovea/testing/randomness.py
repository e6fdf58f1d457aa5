"""Where random numbers may come from: generators as training gives them, and the global ones."""

import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fovea.draws import BatchGenerator

_STATES: dict[str, Callable[[], bytes]] = {
    "torch": lambda: torch.get_rng_state().numpy().tobytes(),
    "numpy": lambda: pickle.dumps(np.random.get_state()),
    "Python": lambda: pickle.dumps(random.getstate()),
}


def generator(seed: int, images: int, device: str = "cpu") -> BatchGenerator:
    """Make the generator of a training step whose process has every other image of the batch."""
    made = BatchGenerator(device)
    made.manual_seed(seed)
    made.whole = torch.Generator(device).manual_seed(seed + 1)
    made.places = torch.arange(images, device=device) * 2
    made.total = 2 * images
    return made


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators for a block; afterwards they are as they were."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def drawn_from(act: Callable[[], object]) -> list[str]:
    """Name the libraries from whose global generators something draws."""
    before = {name: state() for name, state in _STATES.items()}
    act()
    return [name for name, state in _STATES.items() if state() != before[name]]
