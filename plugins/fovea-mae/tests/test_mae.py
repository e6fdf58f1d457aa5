"""The objective: what it may see, what it must tell, where its gradient runs."""

import pytest
import torch
from fovea_mae.decoder import Decoder, mean_square
from fovea_mae.mae import MaskedAutoencoder
from tiny import Noting, build, noise, seeded
from torch import Tensor

from fovea.interfaces import Scene
from fovea.model import FovealModel
from fovea.parts import create


class Given(Scene):
    """Gives patches as they are, whatever the windows: of B images, all that an objective reads."""

    def __init__(self, patches: Tensor):
        self.sizes = torch.full((len(patches), 2), 64)
        self.patches = patches

    def read(self, windows: Tensor) -> Tensor:
        assert windows.shape[:2] == self.patches.shape[:2]
        return self.patches


@pytest.fixture
def built() -> tuple[MaskedAutoencoder, FovealModel]:
    return build()


def given(objective: MaskedAutoencoder, B: int = 3) -> Tensor:
    """Draw patches for all windows: 9 of the global view, 6 of each of two glimpses."""
    windows = 9 + 2 * objective.context.num_windows
    return torch.rand(B, windows, 1, 4, 4, generator=seeded(7))


def hidden_places(objective: MaskedAutoencoder, patches: Tensor) -> Tensor:
    """Find what is hidden [B, N]: with a mute decoder, the loss knows no other patches."""
    weights = {name: one.clone() for name, one in objective.decoder.state_dict().items()}
    torch.nn.init.zeros_(objective.decoder.out.weight)
    leaf = patches.clone().requires_grad_()
    objective(Given(leaf), 0.0, seeded()).total.backward()
    objective.decoder.load_state_dict(weights)
    objective.zero_grad()
    assert leaf.grad is not None
    return leaf.grad.flatten(2).abs().sum(-1) > 0


def test_hidden_patches_do_not_reach_the_state(built):
    objective, _ = built
    patches = given(objective)
    other = torch.rand(patches.shape, generator=seeded(8))
    hidden = hidden_places(objective, patches)[:, :, None, None, None]
    before = objective(Given(patches), 0.0, seeded())
    after = objective(Given(torch.where(hidden, other, patches)), 0.0, seeded())
    for name, features in before.features.items():
        assert torch.equal(features, after.features[name])
    assert not torch.equal(before.total, after.total)  # they are what was to be told
    shown = objective(Given(torch.where(hidden, patches, other)), 0.0, seeded())
    assert not torch.allclose(before.features["glimpse"], shown.features["glimpse"])


def test_each_look_hides_its_share(built):
    objective, _ = built
    hidden = hidden_places(objective, given(objective))
    assert hidden[:, :9].sum(1).tolist() == [4, 4, 4]  # round(9 / 2)
    assert hidden[:, 9:15].sum(1).tolist() == [3, 3, 3]
    assert hidden[:, 15:].sum(1).tolist() == [3, 3, 3]


def test_telling_the_truth_costs_nothing_and_the_mean_what_it_says(built):
    truth = torch.randn(3, 4, 16, generator=seeded())
    assert mean_square(truth.clone(), truth).max() == 0
    objective, model = built
    for parameter in objective.decoder.out.parameters():
        torch.nn.init.zeros_(parameter)
    loss = objective(noise(model), 0.0, seeded())
    assert float(loss.total.detach()) == pytest.approx(float(loss.metrics["error_of_mean"]))
    assert float(loss.metrics["error_of_mean"]) == pytest.approx(1, abs=0.02)  # of noise


def test_what_is_told_of_a_window_knows_its_place_and_the_state_only():
    torch.manual_seed(0)
    decoder = Decoder(build()[0].config.decoder, 16, 16)
    state, windows = torch.randn(2, 3, 16), torch.rand(2, 4, 3)
    told = decoder(state, windows)
    assert torch.allclose(
        decoder(state, windows[:, [2, 0, 3, 1]]), told[:, [2, 0, 3, 1]], atol=1e-6
    )
    assert not torch.allclose(decoder(state, windows + 0.1), told)
    assert not torch.allclose(decoder(state + 0.1, windows), told)


def test_blocks_of_the_decoder_start_with_weights_of_their_own():
    decoder = Decoder(build(decoder={"width": 8, "depth": 2, "heads": 2})[0].config.decoder, 16, 16)
    one, two = (block.linear1.weight for block in decoder.blocks.layers)
    assert not torch.equal(one, two)


def test_no_gradient_runs_through_time(built):
    objective, _ = built
    patches = given(objective)
    hidden = hidden_places(objective, patches)
    later = hidden.clone()
    later[:, :15] = False
    other = torch.rand(patches.shape, generator=seeded(8))
    gradients = []
    for one in (patches, torch.where(later[:, :, None, None, None], other, patches)):
        leaf = one.clone().requires_grad_()
        objective(Given(leaf), 0.0, seeded()).total.backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad[:, 9:15][~hidden[:, 9:15]])
    # what the second glimpse must tell is no matter to what the first one showed
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(*gradients, atol=1e-7)


def test_the_state_carries_what_the_first_glimpse_saw(built):
    objective, _ = built
    patches = given(objective)
    other = patches.clone()
    other[:, 9:15] = torch.rand(3, 6, 1, 4, 4, generator=seeded(9))
    one, two = (objective(Given(patch), 0.0, seeded()).features for patch in (patches, other))
    assert torch.equal(one["global"], two["global"])
    assert not torch.allclose(one["glimpse"], two["glimpse"])


def test_learning_beats_the_mean_of_each_patch(built):
    objective, model = built
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64)
    scene = model.extractor.prepare([ramp, ramp.mT.contiguous(), 1 - ramp, 1 - ramp.mT])
    optimizer = torch.optim.AdamW(objective.parameters(), 0.01)
    generator = seeded()
    for _ in range(120):
        loss = objective(scene, 0.0, generator)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.metrics["error_global"]) < 0.4 * float(loss.metrics["error_of_mean"])


def test_it_reads_no_closer_than_it_says(built):
    objective, model = built
    read = []

    class Watched(Given):
        def read(self, windows: Tensor) -> Tensor:
            read.append(windows[..., 2].max())
            return super().read(windows)

    for seed in range(20):
        objective(Watched(given(objective)), 0.0, seeded(seed))
    assert max(read) <= objective.finest_zoom
    assert objective.finest_zoom >= model.context.finest_zoom


def test_a_context_of_one_window_is_refused(built):
    _, model = built
    one = create("context_builder", "multizoom", zooms=[1.0])
    with pytest.raises(ValueError, match="a look of 1 window cannot be hidden in part"):
        create("ssl_objective", "mae", backbone=model.backbone, context=one, policy=model.policy)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match=r"decoder\.heads: 3 does not divide the width 8"):
        build(decoder={"width": 8, "heads": 3})


def test_the_policy_is_shown_the_scene_and_told_each_gaze():
    policy = Noting()
    objective, model = build(policy=policy)
    scene = noise(model)
    objective(scene, 0.0, seeded())
    first, *gazes = policy.notes
    assert first is scene
    assert [one.shape for one in gazes] == [(3, 2), (3, 2)]
    assert objective.finest_zoom == policy.finest_zoom  # which is the closest here
