"""Evaluation: what is counted is what happened."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fovea import geometry
from fovea.config import Component, validate
from fovea.evaluate import gazes
from fovea.evaluate.accuracy import step_accuracy, vit_accuracy
from fovea.evaluate.enlarge import enlarged_accuracy
from fovea.evaluate.knn import knn_accuracy
from fovea.evaluate.measure import gaze_sources
from fovea.evaluate.report import table
from fovea.interfaces import DataSet, Sample
from fovea.model import assemble
from fovea.recipe import ModelConfig, model_tree, read_recipe
from fovea.task_head.config import LinearConfig
from fovea.trained import Trained
from fovea.viz.glimpses import compose, look


class Greys(DataSet):
    """Two classes: dark and bright images, with the object in the left half."""

    Config = LinearConfig
    classes = ("dark", "bright")

    def __len__(self) -> int:
        return 10

    def name(self, index: int) -> str:
        return str(index)

    def sample(self, index: int, epoch: int) -> Sample:
        value = 230 if index % 2 else 20
        return Sample(np.full((40, 40, 1), value, np.uint8), index % 2, (0.0, 0.0, 0.5, 1.0))


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A model whose heads always answer 'bright'."""
    torch.manual_seed(0)
    model = assemble(validate(ModelConfig, model_tree("vitq8_foveal")))
    head = Component(name="linear", settings=LinearConfig())
    made = Trained(model).with_heads(head, Greys.classes)
    assert made.heads is not None
    for one in made.heads.values():
        torch.nn.init.zeros_(one.linear.weight)
        one.linear.bias.data.copy_(torch.tensor([0.0, 1.0]))
    return made


def test_accuracy_of_a_constant_answer_is_the_share_of_its_class(trained: Trained):
    one = step_accuracy(trained, Greys(), gazes.centre, glimpses=3, seeds=2, batch_size=4)
    assert one.accuracy == pytest.approx([0.5, 0.5, 0.5])
    assert one.spread == [0, 0, 0]
    assert vit_accuracy(trained, Greys(), batch_size=4) == pytest.approx(0.5)


def test_hit_rate_counts_gazes_within_the_box(trained: Trained):
    uniform = gazes.sampled(trained.model.policy)
    hits = step_accuracy(trained, Greys(), uniform, 3, 8, 4).hit_rate
    always = step_accuracy(trained, Greys(), gazes.oracle, 3, 2, 4).hit_rate
    assert hits is not None
    assert 0.3 < np.mean(hits) < 0.7
    assert always == [1, 1, 1]


@pytest.mark.parametrize(
    ("policy", "ways"), [("random", {"random"}), ("gmm", {"random", "policy", "policy, greedy"})]
)
def test_policy_that_is_not_trained_has_rows_of_its_own_beside_random(
    policy: str, ways: set[str], trained: Trained, tmp_path: Path
):
    words = [f"run_dir={tmp_path}", "policy=null", f"model.policy={policy}"]
    recipe = read_recipe("quickstart", words)
    sources = gaze_sources(recipe, trained.with_policy(recipe.model.policy), boxes=False)
    assert set(sources) == ways | {"fixed centre", "centre Gaussian"}
    scene = trained.model.prepare([Greys().sample(0, 0).image] * 200)
    choose = sources["random"](scene, None, torch.Generator().manual_seed(0))
    assert choose(trained.model.initial_state(200)).std(0).min() > 0.2  # uniform: 0.23


def test_same_gaze_seed_gives_the_same_numbers(trained: Trained):
    uniform = gazes.sampled(trained.model.policy)
    one = step_accuracy(trained, Greys(), uniform, 2, 2, 4)
    assert one == step_accuracy(trained, Greys(), uniform, 2, 2, 4)


def test_enlarging_a_constant_image_changes_nothing(trained: Trained):
    for factor in (1, 4):
        one = enlarged_accuracy(trained, Greys(), factor, gazes.centre, 2, 6, 4)
        assert set(one.values()) == {0.5}


def test_knn_equals_a_written_out_vote():
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 5, generator=generator) for n in (30, 7))
    labels = torch.randint(3, (30,), generator=generator)
    votes = []
    for query in queries:
        similarity = torch.cosine_similarity(query[None], bank)
        nearest = similarity.argsort(descending=True)[:6].tolist()
        tally = [0.0, 0.0, 0.0]
        for i in nearest:
            tally[int(labels[i])] += float(torch.exp(similarity[i] / 0.07))
        votes.append(int(np.argmax(tally)))
    assert knn_accuracy(bank, labels, queries, torch.tensor(votes), 6) == 1.0


def test_picture_of_what_was_seen_shows_the_image_where_it_was_looked_at(trained: Trained):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 1), dtype=np.uint8)
    one = look(trained, image, gazes.centre, glimpses=1, seed=0)
    canvas = compose(one, 1)
    covered = geometry.window_edges(one.windows[:1], torch.tensor([[48, 64]]))[0]
    assert canvas[24, 0, 0] == 0.5  # left of the widest window: never looked at
    assert covered[0].tolist() == [8, 0, 56, 48]
    seen = canvas[18:30, 26:38, 0]  # within the foveal grid, about a pixel per cell
    assert abs(seen.mean() - image[18:30, 26:38].mean() / 255) < 0.05


def test_table_shows_each_way_to_gaze():
    way = {"accuracy": [0.5] * 8, "spread": [0.01] * 8, "hit_rate": None}
    results = {
        "images": 10, "split": "test", "seed": 0, "gazes": {"random": way, "policy": way},
        "vit": 0.75, "knn": {"glimpses": 0.6, "vit": 0.7}, "pretraining": None,
        "enlarge": {"1": {"glimpses": 0.5, "vit": 0.75, "fixed_pixels": 0.75,
                          "fixed_pixels_zoom_known": 0.75}},
    }  # fmt: skip
    text = table(results)
    assert "policy" in text
    assert "50.0 ± 1.0" in text
    assert "75.0" in text
