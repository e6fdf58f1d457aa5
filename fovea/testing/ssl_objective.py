"""The contract of SSL objectives."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fovea.interfaces import Backbone, GazePolicy, Loss, Scene, SSLObjective
from fovea.parts import create
from fovea.testing import inputs
from fovea.testing.modules import expect_equal, expect_gradients
from fovea.testing.randomness import drawn_from, generator, seeded
from fovea.testing.rules import Rule, Subject, check, expect
from fovea.testing.second_device import second_device
from fovea.testing.settings import RULES as SETTINGS
from fovea.testing.witness import Attentive, Witness

_STEPS = 20
_RATE = 1e-3


@dataclass(frozen=True)
class Objective(Subject):
    """An objective under test, with our backbone, context and policy, all small."""

    kind: ClassVar[str] = "ssl_objective"
    sizes: ClassVar[dict[str, Any]] = dict.fromkeys(("backbone", "context", "policy"))

    def build(self, seed: int = 0, **sizes: Any) -> SSLObjective:
        """Build it and its partners, in training mode; the seed draws all their weights."""
        with seeded(seed):
            backbone = sizes.get("backbone") or _backbone()
            width, tokens = backbone.width, backbone.num_state_tokens
            policy = sizes.get("policy") or _policy(width, tokens)
            built: SSLObjective = create(
                self.kind,
                self.name,
                **self.settings,
                backbone=backbone,
                context=create("context_builder", "foveal", zooms=[0.0, 1.0], grid=2),
                policy=policy,
            )
        return built.train()


def check_ssl_objective(name: str, /, **settings: Any) -> None:
    """Check a registered objective against its contract, on four small images.

    Args:
        name: the registered one.
        **settings: of its Config, best such that it is small.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    check(Objective(name, settings), RULES)


def gives_a_loss(objective: Objective) -> None:
    """The loss is finite and a scalar, for images of several sizes at any progress in 0..1."""
    for progress in (0.0, 0.5, 1.0):
        loss = _loss(objective.build(), progress)
        expect(isinstance(loss, Loss), f"it is a {type(loss).__name__}")
        expect(loss.total.ndim == 0, f"total is {list(loss.total.shape)}")
        finite = bool(loss.total.isfinite())
        expect(finite, f"total is {loss.total.item()} at progress {progress:g}")


def gives_metrics(objective: Objective) -> None:
    """Metrics are finite scalars and features are [B, D], all of them detached."""
    loss = _loss(objective.build())
    for name, value in loss.metrics.items():
        expect(value.ndim == 0, f"the metric {name} is {list(value.shape)}")
        expect(bool(value.isfinite()), f"the metric {name} is {value.item()}")
    B = len(inputs.SIDES)
    for name, value in loss.features.items():
        fits = value.ndim == 2 and len(value) == B
        expect(fits, f"the features {name} of {B} images are {list(value.shape)}")
    for name, value in {**loss.metrics, **loss.features}.items():
        expect(not value.requires_grad, f"{name} is not detached")


def follows_its_generator(objective: Objective) -> None:
    """Built from one seed, with one generator, it gives one loss, and draws from nothing else."""
    first, second = objective.build(), objective.build()
    expect_equal(_totals(_loss(second)), _totals(_loss(first)), "between two of one seed")
    drawn = drawn_from(lambda: _loss(first))
    expect(not drawn, f"it draws from the global generator of {', '.join(drawn)}")


def trains_what_it_keeps(objective: Objective) -> None:
    """Half way, every parameter that asks for a gradient gets one; a teacher asks for none."""
    built = objective.build()
    expect_gradients(built, _loss(built).total)


def trains_a_backbone(objective: Objective) -> None:
    """The loss has a gradient, not of zeros alone, at a backbone among its modules."""
    built = objective.build()
    _loss(built).total.backward()
    backbones = [one for one in built.modules() if isinstance(one, Backbone)]
    expect(bool(backbones), "it keeps none")
    gradients = [one.grad for backbone in backbones for one in backbone.parameters()]
    reached = any(one is not None and bool(one.any()) for one in gradients)
    expect(reached, "none of them gets one")


def leaves_its_weights(objective: Objective) -> None:
    """Computing the loss and its gradients changes no weight; only steps and update() do."""
    built = objective.build()
    before = {name: one.detach().clone() for name, one in built.named_parameters()}
    _loss(built).total.backward()
    for name, weight in built.named_parameters():
        expect(torch.equal(weight, before[name]), f"{name} is changed")


def detaches_states(objective: Objective) -> None:
    """No gradient runs from one glimpse of a sequence into the one before."""
    with seeded(0):
        witness = Witness()
    _loss(objective.build(backbone=witness))


def runs_its_policy(objective: Objective) -> None:
    """Gazes of a policy are asked of what its begin() returns, which is told each of them."""
    _loss(objective.build(policy=Attentive()))


def hands_on_a_backbone(objective: Objective) -> None:
    """trained_backbone() is a Backbone among its modules, so that checkpoints have it."""
    built = objective.build()
    _step(built, _optimizer(built), 0)
    backbone = built.trained_backbone()
    expect(isinstance(backbone, Backbone), f"it is a {type(backbone).__name__}")
    expect(any(one is backbone for one in built.modules()), "it is none of them")


def reads_no_closer_than_it_says(objective: Objective) -> None:
    """It reads a scene at no larger zoom than its `finest_zoom`."""
    built, watched = objective.build(), inputs.WatchedScene(_scene())
    for seed in range(4):
        _loss(built, seed=seed, scene=watched)
    seen = f"a window has {watched.finest:.4g}, and finest_zoom is {built.finest_zoom:.4g}"
    expect(watched.finest <= built.finest_zoom + 1e-9, seen)


def resumes_exactly(objective: Objective) -> None:
    """A new one that loads its state dict after a step goes on with the same losses, to the bit."""
    built, later = objective.build(1), objective.build(2)
    for step in range(2):
        _step(built, _optimizer(built), step)
    later.load_state_dict(copy.deepcopy(built.state_dict()))
    for step in (2, 3):
        wanted = _step(built, _optimizer(built), step)
        found = _step(later, _optimizer(later), step)
        expect_equal(_totals(found), _totals(wanted), f"{step - 1} steps after loading")


def learns(objective: Objective) -> None:
    """Twenty steps on one batch and one draw bring the loss down."""
    built = objective.build()
    optimizer = _optimizer(built)
    first = _loss(built, 0.5).total.item()
    for _ in range(_STEPS):
        last = _step(built, optimizer, 0).total.item()
    expect(last < first, f"it goes from {first:.4g} to {last:.4g}")


def survives_bfloat16(objective: Objective) -> None:
    """Under autocast to bfloat16 the loss is finite."""
    built = objective.build()
    with torch.autocast("cpu", torch.bfloat16):
        total = _loss(built).total
    expect(bool(total.isfinite()), f"it is {total.item()}")


def works_on_a_device(objective: Objective) -> None:
    """On a GPU, or the kit's stand-in for one, the loss is computed and a step can be made."""
    built = objective.build()
    with second_device() as device:
        built.to(device)
        total = _step(built, _optimizer(built), 0, device.type).total
        expect(total.device == device, f"it is on {total.device}")


def _backbone() -> Backbone:
    built: Backbone = create(
        "backbone",
        "timm_vit",
        arch="vit_tiny_patch16_224",
        width=inputs.WIDTH,
        depth=2,
        heads=2,
        state_tokens=inputs.STATE_TOKENS,
        init="xavier",
        patch_size=inputs.PATCH,
        channels=inputs.CHANNELS,
    )
    return built


def _policy(width: int, num_state_tokens: int) -> GazePolicy:
    built: GazePolicy = create(
        "gaze_policy", "random", width=width, num_state_tokens=num_state_tokens
    )
    return built


def _scene(device: str = "cpu") -> Scene:
    return inputs.scene(device, channels=inputs.CHANNELS)


def _loss(
    built: SSLObjective,
    progress: float = 0.5,
    seed: int = 0,
    scene: Scene | None = None,
    device: str = "cpu",
) -> Loss:
    drawing = generator(seed, len(inputs.SIDES), device)
    loss: Loss = built(_scene(device) if scene is None else scene, progress, drawing)
    return loss


def _step(
    built: SSLObjective, optimizer: torch.optim.Optimizer, seed: int, device: str = "cpu"
) -> Loss:
    loss = _loss(built, seed=seed, device=device)
    optimizer.zero_grad()
    loss.total.backward()
    optimizer.step()
    built.update(0.5)
    return loss


def _optimizer(built: SSLObjective) -> torch.optim.Optimizer:
    """Make one that keeps nothing between steps but the weights, so far as it is made anew."""
    trained = [one for one in built.parameters() if one.requires_grad]
    return torch.optim.Adam(trained, lr=_RATE)


def _totals(loss: Loss) -> dict[str, Tensor]:
    return {"the loss": loss.total.detach()}


RULES: tuple[Rule[Objective], ...] = (
    *SETTINGS,
    gives_a_loss,
    gives_metrics,
    follows_its_generator,
    trains_what_it_keeps,
    trains_a_backbone,
    leaves_its_weights,
    detaches_states,
    runs_its_policy,
    hands_on_a_backbone,
    reads_no_closer_than_it_says,
    resumes_exactly,
    learns,
    survives_bfloat16,
    works_on_a_device,
)
