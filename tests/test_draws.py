"""Random numbers by an image's place in the whole batch."""

import pytest
import torch
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    Uniform,
)

from fovea.draws import draw, normal, uniform
from fovea.engine.seeding import step_generator

CPU = torch.device("cpu")


def step(places: list[int], total: int = 6, rank: int = 0, seed: int = 0):
    return step_generator(seed, "pretrain", 3, CPU, torch.tensor(places), total, rank)


@pytest.mark.parametrize("function", [uniform, normal])
def test_an_image_gets_the_same_numbers_whichever_process_has_it(function):
    whole = function((6, 2), step([*range(6)]))
    for rank, places in enumerate([[0, 1, 2], [3, 5]]):  # image 4 is bad
        assert torch.equal(function((len(places), 2), step(places, rank=rank)), whole[places])
    per_view = function((12, 2), step([*range(6)])).view(6, 2, 2)  # two rows an image
    assert torch.equal(function((4, 2), step([4, 1])).view(2, 2, 2), per_view[[4, 1]])


def test_rows_that_images_cannot_share_are_refused():
    with pytest.raises(ValueError, match="5 rows cannot be shared by 2 images"):
        uniform((5,), step([0, 1]))


def test_a_plain_generator_draws_what_torch_draws():
    plain = torch.Generator().manual_seed(4)
    expected = torch.rand(3, 2, dtype=torch.float64, generator=plain)
    assert torch.equal(uniform((3, 2), torch.Generator().manual_seed(4)), expected)


def test_who_draws_by_torch_gets_another_stream_in_each_process():
    one, same, other = (torch.rand(4, generator=step([0], rank=rank)) for rank in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def mixture(logits: torch.Tensor, std: float = 0.01) -> Distribution:
    means = torch.tensor([[0.2, 0.2], [0.5, 0.5], [0.8, 0.8]]).expand(len(logits), 3, 2)
    components = Independent(Normal(means, torch.full_like(means, std)), 1)
    return MixtureSameFamily(Categorical(logits=logits), components)


def test_gazes_of_a_mixture_follow_the_place_and_its_state():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    whole = draw(mixture(logits), step([*range(6)]))
    assert torch.equal(draw(mixture(logits[[4, 1]]), step([4, 1])), whole[[4, 1]])


def test_a_mixture_is_drawn_in_its_proportions():
    shares = torch.tensor([0.1, 0.3, 0.6])
    drawn = draw(mixture(shares.log().expand(20_000, 3)), torch.Generator().manual_seed(0))
    nearest = (drawn[:, :1] - torch.tensor([0.2, 0.5, 0.8])).abs().argmin(1)
    torch.testing.assert_close(nearest.bincount() / 20_000, shares, atol=0.015, rtol=0)
    assert float(drawn[nearest == 1].std(0).mean()) == pytest.approx(0.01, rel=0.05)


def test_a_mixture_whose_last_component_is_certain_is_drawn():
    logits = torch.tensor([[-1e4, -1e4, 0.0]]).expand(50, 3)
    assert (draw(mixture(logits), torch.Generator().manual_seed(1)) > 0.7).all()


def test_uniform_gazes_fill_their_range():
    low = torch.full((5000, 2), 0.25)
    drawn = draw(Independent(Uniform(low, low + 0.5), 1), torch.Generator().manual_seed(0))
    assert 0.25 <= drawn.min() < 0.26
    assert 0.74 < drawn.max() <= 0.75
    assert drawn.dtype == torch.float32
