"""Random numbers for a batch that processes may share: functions of the seed and an image's place.

Each process has some images of the whole batch. ``uniform`` and ``normal`` draw for the whole batch
in every process and keep the rows of the images that are there: with any number of processes an
image gets the same views and gazes.
"""

from collections.abc import Callable
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily, Normal, Uniform


class BatchGenerator(torch.Generator):
    """A generator that knows which images of the whole batch are here.

    Whoever draws from it as from any ``torch.Generator`` gets a stream of this process's own.

    Attributes:
        whole: draws for the whole batch, the same numbers in every process.
        places: int64 [B], where the images of this process stand in the whole batch.
        total: images of the whole batch.
    """

    whole: torch.Generator
    places: Tensor
    total: int


def uniform(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Draw from 0..1: shape [R, ...], where each of the B images has the next R / B rows.

    The numbers are on the generator's device: a seed of a CPU generator means the same everywhere.
    """
    return _rows(torch.rand, shape, generator, dtype)


def normal(
    shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Draw from a normal distribution; rows as for ``uniform``."""
    return _rows(torch.randn, shape, generator, dtype)


def draw(distribution: Distribution, generator: torch.Generator | None) -> Tensor:
    """Sample a gaze [R, 2]; with a generator the global random state is left as it was.

    Uniform and normal distributions and their mixtures are drawn by an image's place in the whole
    batch; others by a stream of this process.
    """
    if generator is None:
        sample: Tensor = distribution.sample()
        return sample
    with torch.no_grad():
        gaze: Tensor = _sample(distribution, generator)
    return gaze


def _rows(
    function: Callable[..., Tensor],
    shape: tuple[int, ...],
    generator: torch.Generator,
    dtype: torch.dtype,
) -> Tensor:
    if not isinstance(generator, BatchGenerator):
        return function(shape, dtype=dtype, generator=generator, device=generator.device)
    each, rest = divmod(shape[0], len(generator.places))
    if rest:
        raise ValueError(f"{shape[0]} rows cannot be shared by {len(generator.places)} images")
    whole = (generator.total * each, *shape[1:])
    drawn = function(whole, dtype=dtype, generator=generator.whole, device=generator.device)
    here: Tensor = drawn.unflatten(0, (generator.total, each))[generator.places]
    return here.flatten(0, 1)


@singledispatch
def _sample(distribution: Distribution, generator: torch.Generator) -> Tensor:
    """Sample what is known by its seed only.

    The host needs the seed, so it waits for a GPU here: a policy that is to be fast there returns
    one of the distributions below.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    device = distribution.mean.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        sample: Tensor = distribution.sample()
    return sample


@_sample.register(Independent)
def _independent(distribution: "Independent[Distribution]", generator: torch.Generator) -> Tensor:
    inner: Tensor = _sample(distribution.base_dist, generator)
    return inner


@_sample.register
def _uniform(distribution: Uniform, generator: torch.Generator) -> Tensor:
    low, high = distribution.low, distribution.high
    return low + (high - low) * uniform(tuple(low.shape), generator, low.dtype).to(low.device)


@_sample.register
def _normal(distribution: Normal, generator: torch.Generator) -> Tensor:
    mean: Tensor = distribution.mean
    drawn = normal(tuple(mean.shape), generator, mean.dtype).to(mean.device)
    return mean + distribution.stddev * drawn


@_sample.register
def _mixture(distribution: MixtureSameFamily, generator: torch.Generator) -> Tensor:
    """Choose a component by its cumulative probability, then sample it."""
    samples: Tensor = _sample(distribution.component_distribution, generator)  # [R, M, ...]
    below = distribution.mixture_distribution.probs.cumsum(-1)  # [R, M]
    drawn = uniform((len(below), 1), generator, below.dtype).to(below.device)
    chosen = (below[:, :-1] <= drawn).sum(1)  # [R]; without the last: rounding may keep it below 1
    return samples[torch.arange(len(chosen), device=chosen.device), chosen]
