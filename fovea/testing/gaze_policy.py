"""The contract of gaze policies."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from fovea.draws import draw
from fovea.interfaces import GazePolicy, Scene
from fovea.testing import inputs
from fovea.testing.modules import RULES as MODULE
from fovea.testing.modules import ModuleSubject, Outputs, expect_close, expect_gradients
from fovea.testing.randomness import drawn_from, generator, seeded
from fovea.testing.rules import Rule, check, expect
from fovea.testing.settings import RULES as SETTINGS

_GLIMPSES = 3


@dataclass(frozen=True)
class Policy(ModuleSubject):
    """A policy under test."""

    kind: ClassVar[str] = "gaze_policy"
    sizes: ClassVar[dict[str, Any]] = {
        "width": inputs.WIDTH,
        "num_state_tokens": inputs.STATE_TOKENS,
    }

    def state(self, batch: int = len(inputs.SIDES), seed: int = 0) -> Tensor:
        """Draw a state [batch, K, D]."""
        K, D = (self.given.get(name, self.sizes[name]) for name in ("num_state_tokens", "width"))
        return inputs.random((batch, K, D), seed)

    def gazes(
        self,
        module: GazePolicy,
        scene: Scene | None = None,
        traces: int = 1,
        seed: int = 0,
        device: str = "cpu",
    ) -> Tensor:
        """Look around in a scene, as a model does -> gazes [glimpses, B * traces, 2]."""
        scene = inputs.scene(device) if scene is None else scene
        drawing, policy, gazes = generator(seed, len(scene), device), module.begin(scene), []
        with torch.no_grad():
            for step in range(_GLIMPSES):
                state = self.state(len(scene), step).repeat_interleave(traces, 0)
                gazes.append(draw(policy(state.to(device)), drawing))
                policy.observe(gazes[-1])
        return torch.stack(gazes)

    def outputs(self, module: GazePolicy, device: str = "cpu") -> Outputs:
        """Look around, and ask for the best gaze of another sequence."""
        with torch.no_grad():
            best = module.begin(inputs.scene(device)).best(self.state().to(device))
        return {"a gaze": self.gazes(module, device=device), "the best gaze": best}


def check_gaze_policy(name: str, /, **settings: Any) -> None:
    """Check a registered policy against its contract.

    Args:
        name: the registered one.
        **settings: of its Config; also ``width`` and ``num_state_tokens``.

    Raises:
        AssertionError: it breaks a rule; one sentence says which, and what was seen.
    """
    check(Policy(name, settings), RULES)


def gives_a_distribution(policy: Policy) -> None:
    """What it returns is a torch Distribution, batch [B], event [2]."""
    state = policy.state()
    distribution = policy.build().begin(inputs.scene())(state)
    expect(isinstance(distribution, Distribution), f"it is a {type(distribution).__name__}")
    shapes = list(distribution.batch_shape), list(distribution.event_shape)
    wanted = [len(state)], [2]
    expect(shapes == wanted, f"batch and event are {shapes[0]} and {shapes[1]}")


def gives_gazes(policy: Policy) -> None:
    """Samples, mean and best gaze are finite, [B, 2]; those of G traces per image, [B * G, 2]."""
    B = len(inputs.SIDES)
    for traces in (1, 3):
        bound = policy.build().begin(inputs.scene())
        state = policy.state().repeat_interleave(traces, 0)
        distribution = bound(state)
        gazes = {
            "a sample": draw(distribution, generator(0, B)),
            "the mean": distribution.mean,
            "the best": bound.best(state),
        }
        for name, gaze in gazes.items():
            wanted = [B * traces, 2]
            expect(list(gaze.shape) == wanted, f"{name} is {list(gaze.shape)}, not {wanted}")
            expect(bool(gaze.isfinite().all()), f"{name} is not finite")


def follows_its_generator(policy: Policy) -> None:
    """Gazes drawn by fovea.draws.draw with a generator depend on its seed alone."""
    built = policy.build()
    first = policy.gazes(built, seed=3)
    drawn = drawn_from(lambda: policy.gazes(built, seed=3))
    expect(not drawn, f"the global generator of {', '.join(drawn)} is drawn from")
    expect(torch.equal(policy.gazes(built, seed=3), first), "gazes of one seed differ")


def looks_at_each_image_for_itself(policy: Policy) -> None:
    """An image's mean gaze does not depend on the others in its batch."""
    built, pictures, state = policy.build(), inputs.pictures(), policy.state()
    together = built.begin(inputs.scene())(state).mean
    for b, picture in enumerate(pictures):
        alone = built.begin(inputs.scene(given=[picture]))(state[b : b + 1]).mean
        expect_close(alone, together[b : b + 1], "mean gazes of an image alone and in a batch")


def keeps_each_sequence_apart(policy: Policy) -> None:
    """What begin() returns holds what a sequence notes: another sequence is not changed by it."""
    other, built = inputs.scene(given=inputs.pictures()[::-1]), policy.build()
    with seeded(0):
        wanted = policy.gazes(policy.build(), other)
    policy.gazes(built)
    with seeded(0):
        found = policy.gazes(built, other)
    expect_close(found, wanted, "gazes after another batch and without", 0)


def reads_no_closer_than_it_says(policy: Policy) -> None:
    """It reads a scene at no larger zoom than its `finest_zoom`."""
    built, watched = policy.build(), inputs.WatchedScene(inputs.scene())
    policy.gazes(built, watched)
    seen = f"a window has {watched.finest:.4g}, and finest_zoom is {built.finest_zoom:.4g}"
    expect(watched.finest <= built.finest_zoom + 1e-9, seen)


def leaves_its_inputs(policy: Policy) -> None:
    """The state and the gazes that it observes are left as they were."""
    bound, state = policy.build().begin(inputs.scene()), policy.state()
    gaze = inputs.random((len(state), 2))
    seen = gaze.clone()
    bound(state)
    bound.observe(seen)
    expect(torch.equal(state, policy.state()), "the state is changed")
    expect(torch.equal(seen, gaze), "the gaze is changed")


def trains_all_of_itself(policy: Policy) -> None:
    """If it has parameters to train, the log-probability of a gaze is finite and reaches each."""
    built = policy.build().train()
    if not any(one.requires_grad for one in built.parameters()):
        return
    gaze = torch.full((len(inputs.SIDES), 2), 0.4)
    log_probability = built.begin(inputs.scene())(policy.state()).log_prob(gaze)
    wanted = [len(inputs.SIDES)]
    expect(list(log_probability.shape) == wanted, f"it is {list(log_probability.shape)}")
    expect(bool(log_probability.isfinite().all()), "it is not finite")
    expect_gradients(built, log_probability.sum())


def anneals(policy: Policy) -> None:
    """anneal() takes any progress in 0..1, after which gazes are finite."""
    built = policy.build()
    for progress in (0.0, 0.5, 1.0):
        built.anneal(progress)
        finite = bool(policy.gazes(built).isfinite().all())
        expect(finite, f"they are not at progress {progress:g}")


def keeps_what_it_annealed(policy: Policy) -> None:
    """What anneal() sets is part of its state dict: a loaded policy gazes as the saved one."""
    built, loaded = policy.build(1), policy.build(2)
    built.anneal(0.7)
    loaded.load_state_dict(built.state_dict())
    expect_close(policy.gazes(loaded), policy.gazes(built), "gazes of saved and loaded", 0)


RULES: tuple[Rule[Policy], ...] = (
    *SETTINGS,
    gives_a_distribution,
    gives_gazes,
    leaves_its_inputs,
    keeps_each_sequence_apart,
    follows_its_generator,
    *MODULE,
    looks_at_each_image_for_itself,
    reads_no_closer_than_it_says,
    trains_all_of_itself,
    anneals,
    keeps_what_it_annealed,
)
