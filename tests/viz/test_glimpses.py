"""Pictures of glimpses: nothing is said about values that a resampling put a little outside."""

import logging

import numpy as np
import pytest
from matplotlib.figure import Figure

from fovea.viz.glimpses import show


@pytest.mark.parametrize("channels", [1, 3])
def test_values_just_outside_are_clipped_in_silence(
    channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    image = np.linspace(-0.001, 1.001, 12 * channels).reshape(4, 3, channels)
    axes = Figure().subplots()
    with caplog.at_level(logging.WARNING):
        show(axes, image)
        axes.figure.draw_without_rendering()
    assert not caplog.records
    (shown,) = axes.get_images()
    assert 0 <= shown.get_array().min() <= shown.get_array().max() <= 1
