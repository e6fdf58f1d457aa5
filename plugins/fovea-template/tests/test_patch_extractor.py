"""Laws of the extractor."""

import numpy as np
import pytest
import torch

import fovea


@pytest.mark.parametrize("sums", ["float32", "float64"])
def test_contract(contract, sums):
    contract("patch_extractor", "template", sums=sums)


def test_one_window_over_a_square_image_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    scene = fovea.create("patch_extractor", "template", patch_size=8).prepare(image)
    patch = scene.read(torch.tensor([[[0.5, 0.5, 0.0]]]))[0, 0]
    assert torch.allclose(patch, torch.from_numpy(image).permute(2, 0, 1) / 255)
