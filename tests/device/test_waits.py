"""Where the host waits for the device: never in a glimpse, and once in a step, for the guard."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fovea
from fovea.testing.second_device import second_device, waits
from fovea.train import main as train

QUIET = [
    *("device=cuda", "log_every=1000", "checkpoint_every=1000", "online=null"),
    *("pretrain.batch_size=4", "pretrain.objective.glimpses=2", "pretrain.objective.locals=1"),
    *("probe.batch_size=4", "probe.glimpses=2", "policy.batch_size=4", "policy.glimpses=2"),
    *("policy.traces=2", "policy.policy.depth=1"),
]
"""Only the first and the last step of a stage are logged."""


def waited(folder: Path, stage: str, steps: int, *words: str) -> list[str]:
    """Train a stage for so many steps; list where the host waited."""
    lengths = [f"{name}.steps={steps if name == stage else 2}" for name in STAGES]
    with second_device(), waits() as found:
        run_dir = folder / f"{stage}-{steps}"
        assert train(["smoke", *QUIET, *lengths, f"run_dir={run_dir}", *words]) == 0
    return found


SEEN = not torch.cuda.is_available()
"""Whether the guard's wait for its event is listed: torch's debug mode on a GPU does not see it."""
STAGES = ("pretrain", "probe", "policy")


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_waits_once_for_the_guard(stage: str, tmp_path: Path) -> None:
    few, many = (waited(tmp_path, stage, steps) for steps in (3, 5))
    more = sorted(many)
    for one in few:
        more.remove(one)
    assert len(more) == 2 * SEEN, more
    assert all("Event.synchronize" in one for one in more), more


def test_colour_images_and_bfloat16_wait_no_more(tmp_path: Path) -> None:
    words = [
        *("model.name=vitt16_foveal", "model.backbone.depth=1", "precision=bfloat16"),
        *("pretrain.objective.augment.hue=0.1", "pretrain.objective.augment.saturation=0.2"),
    ]
    few, many = (waited(tmp_path, "pretrain", steps, *words) for steps in (3, 5))
    assert len(many) == len(few) + 2 * SEEN, set(many) - set(few)


@pytest.mark.parametrize("policy", ["random", "gmm"])
def test_glimpses_do_not_wait(policy: str) -> None:
    images = [np.zeros((60, 40, 3), np.uint8), np.full((30, 90, 3), 9, np.uint8)]
    with second_device() as device, torch.inference_mode():
        model = fovea.build_model("vitt16_foveal", policy=policy).to(device)
        generator = torch.Generator(device)
        model(images, 2, generator)  # what goes to the device once is there
        with waits() as found:
            model(images, 3, generator)
            model.vit(images)
    assert not found


def test_a_batch_on_the_device_does_not_wait() -> None:
    with second_device() as device, torch.inference_mode():
        model = fovea.build_model("vitt16_foveal").to(device)
        batch = torch.zeros(3, 3, 50, 40, dtype=torch.uint8, device=device)
        generator = torch.Generator(device)
        model(batch, 1, generator)
        with waits() as found:
            model(batch, 2, generator)
    assert not found
