"""Laws of the data set."""

import numpy as np
import pytest

import fovea


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_contract(contract, split):
    contract("data_set", "template", split=split, images=6)


def test_the_shape_fills_its_box_and_nothing_else():
    pictures = fovea.create("data_set", "template", split="train", channels=1)
    for index in range(9):
        sample = pictures.sample(index, epoch=0)
        rows, columns = np.nonzero(sample.image[:, :, 0] == 220)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.allclose(edges, np.array(sample.box) * 56, atol=1.5)


def test_only_training_pictures_change_with_the_epoch():
    for split, changes in (("train", True), ("test", False)):
        pictures = fovea.create("data_set", "template", split=split, channels=3)
        first, second = (pictures.sample(4, epoch).image for epoch in (0, 1))
        assert np.array_equal(first, second) != changes
