"""A policy that looks at the scene: whoever runs a sequence begins it, and nothing stays."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

import fovea
from fovea.config import Component, Section, validate
from fovea.evaluate import gazes
from fovea.evaluate.accuracy import classify
from fovea.interfaces import GazePolicy, Scene
from fovea.model import FovealModel
from fovea.recipe import ModelConfig, PolicyConfig, PretrainConfig
from fovea.stages.policy import Policy
from fovea.stages.pretrain import Pretrain
from fovea.stages.probe import random_states
from fovea.trained import Trained
from fovea.viz.glimpses import look

PATCH, S = 4, 3


class Begun(GazePolicy):
    """Looks first where the image is bright, then always a little further to the right."""

    def __init__(self, bright: Tensor, began: "Brightest"):
        super().__init__()
        self.bright, self.noted = bright, began.noted
        self.noted.append([])

    def forward(self, state: Tensor) -> Distribution:
        traces = len(state) // len(self.bright)
        start = self.bright.repeat_interleave(traces, 0)
        gaze = self.noted[-1][-1] + 0.01 if self.noted[-1] else start
        return Independent(Normal(gaze, 1e-4), 1)

    def observe(self, gaze: Tensor) -> None:
        self.noted[-1].append(gaze)


class Brightest(GazePolicy):
    """Knows nothing but the scene; keeps what its sequences noted, for the tests to see."""

    Config = Section
    finest_zoom = 7.0

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[list[Tensor]] = []

    def forward(self, state: Tensor) -> Distribution:
        raise AssertionError("a sequence was run without begin")

    def begin(self, scene: Scene) -> GazePolicy:
        whole = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).expand(len(scene), 1, 3)
        cells = scene.read(whole).sum((1, 2)).flatten(1).argmax(1)  # of P * P, [B]
        place = torch.stack([cells % PATCH, cells // PATCH], dim=1)
        return Begun((place + 0.5) / PATCH, self)


def model() -> FovealModel:
    torch.manual_seed(0)
    tree = {
        "patch_size": PATCH,
        "channels": 1,
        "extractor": {"name": "integral"},
        "context": {"name": "multizoom", "zooms": [0, 1]},
        "vit_context": {"name": "grid", "grid": 2},
        "backbone": {
            "name": "timm_vit", "arch": "vit_tiny_patch16_224", "width": 16, "depth": 1, "heads": 2,
            "state_tokens": 2, "init": "xavier", "mean": [0.5], "std": [0.25],
        },
        "policy": {"name": "random"},
    }  # fmt: skip
    config = validate(ModelConfig, tree)
    parts = fovea.model.assemble(config)
    contexts = (parts.context, parts.vit_context)
    return FovealModel(config, parts.extractor, *contexts, parts.backbone, Brightest()).eval()


def spot(cell: tuple[int, int]) -> np.ndarray:
    """Draw a black image with one white cell (column, row) of 4 x 4."""
    image = np.zeros((16, 16, 1), np.uint8)
    x, y = 4 * cell[0], 4 * cell[1]
    image[y : y + 4, x : x + 4] = 255
    return image


CELLS = [(0, 3), (2, 1), (3, 3)]
STARTS = torch.tensor([[(x + 0.5) / 4, (y + 0.5) / 4] for x, y in CELLS])
EXPECTED = STARTS[:, None] + 0.01 * torch.arange(S)[None, :, None]  # [B, S, 2]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def policy_of(one: FovealModel) -> Brightest:
    assert isinstance(one.policy, Brightest)
    return one.policy


def noted(one: FovealModel) -> Tensor:
    """Stack what the only sequence noted: [B, S, 2]."""
    (sequence,) = policy_of(one).noted
    return torch.stack(sequence, 1)


def check(gaze: Tensor, expected: Tensor = EXPECTED) -> None:
    torch.testing.assert_close(gaze, expected, rtol=0, atol=0.005)


@torch.no_grad()
def test_a_model_looks_where_the_scene_says_and_tells_each_gaze():
    one = model()
    output = one([spot(cell) for cell in CELLS], glimpses=S, generator=generator())
    check(output.gazes)
    assert torch.equal(noted(one), output.gazes)


@torch.no_grad()
def test_nothing_stays_from_one_batch_to_the_next():
    one = model()
    images = [spot(cell) for cell in CELLS]
    for some in (slice(None), slice(1, None), slice(0, 1), slice(None)):
        check(one(images[some], S, generator()).gazes, EXPECTED[some])
    assert len(policy_of(one).noted) == 4


@torch.no_grad()
def test_a_probe_begins_each_sequence():
    one = model()
    random_states(one, one.prepare([spot(cell) for cell in CELLS]), S, generator())
    check(noted(one))


def trained(one: FovealModel) -> Trained:
    head = Component(name="linear", settings=fovea.registry.config_class("task_head", "linear")())
    return Trained(one).with_heads(head, ("a", "b"))


@pytest.mark.parametrize("way", [gazes.sampled, gazes.greedy])
def test_evaluation_begins_each_sequence(way):
    one = model()
    scene = one.prepare([spot(cell) for cell in CELLS])
    _, seen = classify(trained(one), scene, None, way(one.policy), S, generator())
    check(seen.transpose(0, 1))


def test_pictures_begin_each_sequence():
    one = model()
    check(look(trained(one), spot(CELLS[1]), gazes.sampled(one.policy), S, 0).gazes, EXPECTED[1])


def test_traces_of_the_policy_stage_share_a_scene_and_keep_to_their_own_gazes():
    one, G = model(), 2
    tree = {"batch_size": 3, "steps": 1, "policy": {"name": "random"}, "traces": G, "glimpses": S}
    stage = Policy(validate(PolicyConfig, tree), trained(one))
    stage.policy = one.policy
    scene = one.prepare([spot(cell) for cell in CELLS])
    stage(scene, torch.zeros(3, dtype=torch.long), 0.0, generator())
    check(noted(one), EXPECTED.repeat_interleave(G, 0))


def test_pretraining_draws_all_gazes_of_a_sequence_from_one_beginning():
    one = model()
    augment = {"blur_teacher": 0, "blur_student": 0, "blur_local": 0, "solarize": 0}
    colours = {"saturation": 0, "hue": 0, "grayscale": 0}
    crop = {"grid": 2, "scale": [0.5, 1.0]}
    objective = {
        "name": "dino_seq2global", "glimpses": S, "locals": 0, "global_crop": crop,
        "augment": {**augment, **colours},
        "head": {"hidden": 8, "bottleneck": 4, "prototypes": 8},
    }  # fmt: skip
    tree = {"batch_size": 3, "steps": 1, "objective": objective}
    stage = Pretrain(validate(PretrainConfig, tree), Trained(one))
    stage(one.prepare([spot(cell) for cell in CELLS]), torch.zeros(3), 0.0, generator())
    sequences = policy_of(one).noted  # the teacher's and the student's
    assert len(sequences) == 2
    for sequence in sequences:
        check(torch.stack(sequence, 1))
    assert stage.finest_zoom == one.finest_zoom == 7.0


def test_a_policy_that_knows_the_state_only_is_its_own_sequence():
    uniform = fovea.create("gaze_policy", "random", width=16, num_state_tokens=2)
    assert uniform.begin(model().prepare(spot((0, 0)))) is uniform
    assert uniform.finest_zoom == -float("inf")
