"""What is hidden, and what it should be told as, against slow references."""

import pytest
import torch
from fovea_mae.hiding import count_hidden, hide, targets
from tiny import seeded

from fovea.objective.views import View


def numbered(R: int, N: int) -> View:
    """Make a view whose patches and windows say their row and place."""
    number = torch.arange(R * N, dtype=torch.float64).view(R, N)
    patches = number.float()[:, :, None, None, None].expand(R, N, 1, 2, 2)
    return View(patches, number[:, :, None].expand(R, N, 3))


def test_shown_and_hidden_windows_make_up_the_look_each_once():
    view = numbered(5, 7)
    halves = hide(view, 0.4, seeded())
    together = torch.cat([one.windows[:, :, 0] for one in halves], 1)
    assert torch.equal(together.sort(1).values, view.windows[:, :, 0])
    assert [one.windows.shape[1] for one in halves] == [4, 3]


def test_patches_stay_with_their_windows():
    for half in hide(numbered(4, 6), 0.5, seeded()):
        assert torch.equal(half.patches[:, :, 0, 0, 0].double(), half.windows[:, :, 0])


def test_each_window_is_hidden_as_often_as_any_other():
    _, hidden = hide(numbered(4000, 5), 0.4, seeded())
    places = hidden.windows[:, :, 0].long() % 5
    share = places.flatten().bincount() / 4000
    assert share.tolist() == pytest.approx([0.4] * 5, abs=0.03)  # 4 standard errors


@pytest.mark.parametrize(("windows", "share", "count"), [(2, 0.9, 1), (10, 0.01, 1), (10, 0.7, 7)])
def test_some_windows_are_hidden_and_some_are_shown(windows, share, count):
    assert count_hidden(windows, share) == count


def test_a_look_of_one_window_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        count_hidden(1, 0.5)


def test_targets_equal_a_plain_loop():
    patches = torch.rand(2, 3, 2, 4, 4, generator=seeded())
    found = targets(patches, 2)
    for b in range(2):
        for n in range(3):
            cells = torch.stack(
                [
                    patches[b, n, c, y : y + 2, x : x + 2].mean()
                    for c in range(2)
                    for y in (0, 2)
                    for x in (0, 2)
                ]
            )
            deviation = (cells.var(correction=0) + 1 / 255**2).sqrt()
            assert torch.allclose(found[b, n], (cells - cells.mean()) / deviation, atol=1e-5)


def test_brightness_and_contrast_of_a_patch_hardly_change_its_target():
    patches = torch.rand(2, 3, 1, 4, 4, generator=seeded())
    assert torch.allclose(targets(patches * 0.5 + 0.2, 4), targets(patches, 4), atol=2e-3)


def test_a_flat_patch_has_nothing_to_tell():
    assert torch.equal(targets(torch.full((1, 1, 1, 4, 4), 0.3), 4), torch.zeros(1, 1, 16))
    almost = torch.full((1, 1, 1, 4, 4), 0.5)
    almost[..., 0, 0] += 0.1 / 255
    assert targets(almost, 4).abs().max() < 0.15


def test_pixels_that_do_not_divide_the_patch_are_refused():
    with pytest.raises(ValueError, match=r"objective\.pixels: 3 does not divide the patch side 4"):
        targets(torch.rand(1, 1, 1, 4, 4), 3)
