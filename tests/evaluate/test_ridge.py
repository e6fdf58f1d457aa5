"""The linear probe in closed form."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from fovea.evaluate.ridge import ridge_accuracy


@pytest.mark.parametrize("images", [400, 30])  # more than features, and fewer
def test_probe_answers_as_scikit_learn_does(images: int):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 60))
    labels = rng.integers(0, 4, images + 200)
    features = centres[labels] + rng.normal(size=(images + 200, 60)) * rng.uniform(1, 6, 60)
    bank, queries = features[:images], features[images:]
    scaled = (features - bank.mean(0)) / bank.std(0)
    judge = RidgeClassifier(alpha=0.01 * images).fit(scaled[:images], labels[:images])
    answers = judge.predict(scaled[images:])
    assert 0.3 < (answers == labels[images:]).mean() < 0.95

    def accuracy(truth: np.ndarray) -> float:
        known = torch.from_numpy(labels[:images])
        return ridge_accuracy(
            torch.from_numpy(bank), known, torch.from_numpy(queries), torch.from_numpy(truth)
        )

    assert accuracy(answers) == 1.0
    assert accuracy(labels[images:]) == pytest.approx((answers == labels[images:]).mean())


def test_features_that_say_nothing_give_the_commonest_class():
    bank, queries = torch.ones(10, 3), torch.ones(4, 3)
    labels = torch.tensor([2] * 6 + [0] * 4)
    assert ridge_accuracy(bank, labels, queries, torch.tensor([2, 2, 0, 1])) == 0.5


def test_units_of_features_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 8, generator=generator) for n in (50, 40))
    labels, truth = (torch.randint(3, (n,), generator=generator) for n in (50, 40))
    scale, shift = torch.logspace(-3, 3, 8), torch.arange(8.0)
    plain = ridge_accuracy(bank, labels, queries, truth)
    assert plain == ridge_accuracy(bank * scale + shift, labels, queries * scale + shift, truth)
